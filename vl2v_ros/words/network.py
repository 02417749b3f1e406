"""Why HTTP fails: what the environment says of proxies and certificates, where it is wrong."""
import http.client
import os
from pathlib import Path
import re
import urllib.error
from urllib.parse import urlsplit

PROXIES = 'all_proxy', 'https_proxy', 'http_proxy'
CERTIFICATES = 'SSL_CERT_FILE', 'REQUESTS_CA_BUNDLE', 'CURL_CA_BUNDLE'  # with certificates


def explained(error: BaseException) -> str:
    """Return an HTTP client's error as one line, with what in the environment may cause it."""
    said = re.sub(r'//[^/\s]*@', '//***@', ' '.join(f'{error} ({type(error).__name__})'.split()))
    return '; '.join(filter(None, (f'{said:.300}', doubts())))


def will_not_pass(error: BaseException) -> bool:
    """Return whether an error of urllib stays as it is: of a proxy, an address or certificates."""
    import ssl
    reason = getattr(error, 'reason', None)
    return (isinstance(error, (http.client.InvalidURL, ValueError))
            or isinstance(error, urllib.error.URLError) and isinstance(reason, str)
            and reason.startswith('unknown url type')
            or isinstance(reason, ssl.SSLCertVerificationError))


def doubts() -> str:
    """
    Return which variables of the environment may be why HTTP fails, and what to do; '' for none.

    It names kinds of proxies and files, but no address, which may hold a password.
    """
    said = [(name, _of_proxy(os.environ[name])) for low in PROXIES for name in (low.upper(), low)
            if os.environ.get(name)]
    said += [(name, _of_certificates(os.environ[name])) for name in CERTIFICATES
             if os.environ.get(name)]
    folder = os.environ.get('SSL_CERT_DIR')
    if folder and not any(map(os.path.isdir, folder.split(os.pathsep))):
        said.append(('SSL_CERT_DIR', f'names {folder}, which is no folder; correct or unset it'))
    return '; '.join(f'{name} {problem}' for name, problem in said if problem)


def _of_proxy(address: str) -> str:
    try:
        parts = urlsplit(address if '/' in address else f'http://{address}')
        kind = parts.scheme if parts.hostname and parts.port != 0 else ''
    except ValueError:  # a port or a host that is none
        kind = ''
    if kind in {'http', 'https'}:
        return ''
    if kind.startswith('socks'):
        return (f'names a proxy of the kind {kind}, for which the package socksio is needed or '
                'which is not supported; name an HTTP proxy, or unset it')
    return 'names no proxy; expected an address like http://host:3128, or unset it'


def _of_certificates(file: str) -> str:
    import ssl
    if os.path.isdir(file):
        return f'names {file}, which is a folder; name a file of certificates, or unset it'
    try:
        ssl.create_default_context(cafile=str(Path(file)))
    except OSError as error:  # ssl.SSLError is one
        why = 'it holds no certificates' if isinstance(error, ssl.SSLError) else error.strerror
        return f'names {file}, which cannot be used ({why}); correct or unset it'
    return ''
