"""
Weights of open_clip's models: found on this machine, or downloaded once.

huggingface_hub downloads them: a file gets its name only when it is complete, and a download that
broke off is resumed. This module makes sure that the file is what the hub names, that a robot
without a network gets an error at once, and that each error is one line.
"""
import errno
import logging
import os
from pathlib import Path
import socket
import threading
from urllib.parse import urlsplit

from vl2v_ros.files import digest
from vl2v_ros.words.network import doubts
from vl2v_ros.words.open_clip_models import OpenClipModel

logger = logging.getLogger(__name__)
# Names of weights in open_clip's repositories, the preferred one first.
USUAL = 'open_clip_model.safetensors', 'open_clip_pytorch_model.bin'
PATIENCE = 2.0  # time limit to reach a host [s]
DIGEST = 64  # letters of a SHA-256
PORTS = {'http': 80, 'https': 443}


class NotAtHand(ValueError):
    """The weights of `tower` are not on this machine, and cannot be downloaded (`reason`)."""

    def __init__(self, tower: str, reason: str, advice: str) -> None:
        """Store the reason, as one line."""
        self.reason, self.advice = f'the text tower {tower} is not cached, and {reason}', advice
        super().__init__(f'{self.reason}; {advice}')


def check_early(tower: str) -> None:
    """
    Raise NotAtHand as `find` does, if no weights at all are cached and there is no network.

    This needs no open_clip, which takes seconds to import.
    """
    from huggingface_hub import constants
    if not any(Path(constants.HF_HUB_CACHE).glob('models--*/snapshots/*/*')):
        _check_network(tower)


def find(model: OpenClipModel) -> Path:
    """
    Return the file of a model's weights; download it if it is not cached.

    :raises NotAtHand: if it cannot be downloaded, or is not what the hub names; without a network,
        at once.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    repository, _, file = model.weights.rpartition('/')
    files = _alternatives(file)
    for file in files:
        kept = try_to_load_from_cache(repository, file)
        if isinstance(kept, str):
            return Path(kept)
    _check_network(model.identity)
    logger.warning('downloading the weights of the text tower %s; this happens once, and may take '
                   'minutes', model.identity)
    try:
        for file in files[:-1]:
            try:
                return _verified(Path(hf_hub_download(repository, file)))
            except LocalEntryNotFoundError:  # the hub was not reached
                raise
            except EntryNotFoundError:
                pass
        return _verified(Path(hf_hub_download(repository, files[-1])))
    except Exception as error:  # whatever the hub's client raises: there is no common base class
        reason, advice = _why(error, repository)
        raise NotAtHand(model.identity, f'could not be fetched ({reason})', advice) from error


def _verified(path: Path) -> Path:
    """
    Return a file that was just downloaded; huggingface_hub compares its size alone.

    The hub names large files by their SHA-256, and the cache keeps them by that name.

    :raises ValueError: if it is another file; it is deleted.
    """
    kept = path.resolve()
    if len(kept.name) == DIGEST and digest(kept) != kept.name:
        kept.unlink()
        path.unlink(missing_ok=True)
        raise ValueError(f'expected the file with SHA-256 {kept.name}, got another one')
    return path


def _alternatives(file: str) -> tuple[str, ...]:
    """Return the possible names of a weights file in a repository, the preferred one first."""
    if not file:
        return USUAL
    stem, ending = os.path.splitext(file)
    return (f'{stem}.safetensors', file) if ending in ('.bin', '.pth') else (file,)


def _check_network(tower: str) -> None:
    if reason := no_network():
        raise NotAtHand(tower, reason, 'connect once to the network, or name a '
                        'local config and weights file')


def no_network() -> str:
    """Return why the hub cannot be reached, as 'there is no network (...)'; '' if it can."""
    from huggingface_hub import constants
    if constants.HF_HUB_OFFLINE:
        return 'there is no network (HF_HUB_OFFLINE is set)'
    try:
        scheme, host, port = _first_hop(constants.ENDPOINT)
    except ValueError:  # for a port that is none
        host = ''
    if not host:
        known = doubts() or 'HF_ENDPOINT names no host'
        return f'there is no network ({known})'
    failure = [f'{host} does not answer']
    # In a thread, because nothing else limits the time of a name look-up.
    thread = threading.Thread(target=_connect, args=(host, port or PORTS[scheme], failure),
                              daemon=True, name='reach the hub')
    thread.start()
    thread.join(2 * PATIENCE)
    return f'there is no network ({failure[0]})' if failure else ''


def _first_hop(endpoint: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port of the hub, or of the proxy that leads to it."""
    from urllib.request import getproxies, proxy_bypass  # 20 ms of a start
    address = urlsplit(endpoint)
    proxies = getproxies()
    proxy = proxies.get(address.scheme) or proxies.get('all')
    if proxy and not proxy_bypass(address.hostname or ''):
        address = urlsplit(proxy if '://' in proxy else f'http://{proxy}')
    scheme = address.scheme if address.scheme in PORTS else 'http'
    return scheme, address.hostname or '', address.port


def _connect(host: str, port: int, failure: list[str]) -> None:
    """Connect to a host; clear `failure` if it works, else put the reason into it."""
    try:
        socket.create_connection((host, port), PATIENCE).close()
        failure.clear()
    except OSError as error:
        failure[:] = [f'{host}:{port}: {error.strerror or error}']


def _why(error: BaseException, repository: str) -> tuple[str, str]:
    """Return why a download failed and what to do; on a full disk, delete incomplete files."""
    from huggingface_hub import constants
    causes = [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)
    for cause in causes:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            folder = Path(constants.HF_HUB_CACHE)
            for begun in folder.glob(f'models--{repository.replace("/", "--")}/**/*.incomplete'):
                begun.unlink(missing_ok=True)
            return (f'no room in {folder}: {os.strerror(cause.errno)}',
                    'make room, or set HF_HOME to a folder on another disk')
    said = ' '.join(str(error).split())
    return f'{type(error).__name__}: {said:.300}', doubts() or 'try again'
