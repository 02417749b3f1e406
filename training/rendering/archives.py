"""Archives of meshes: check that they are complete, and unpack only safe files."""
from collections.abc import Mapping
from email.message import Message
import gzip
import hashlib
from pathlib import Path, PurePosixPath
import re
import tarfile
import zlib

MESH = 'google_16k'
BLOCK = 1 << 16  # [bytes]
S3_PART = 8 << 20  # of the parts that the set was uploaded in, as its ETags show [bytes]
MAX_UNPACKED = 1 << 30  # of one object [bytes]


class Refused(Exception):
    """This object cannot be downloaded; others may still be."""


def compare(path: Path, headers: Mapping[str, str] | Message) -> str:
    """Compare a file with the server's checksum; return a text on the result; raises Refused."""
    tag = headers.get('ETag', '').strip('"')
    if headers.get('Server') == 'AmazonS3':  # elsewhere an ETag may be anything
        data = path.read_bytes()
        whole = hashlib.md5(data).hexdigest()
        if re.fullmatch('[0-9a-f]{32}', tag) and tag != whole:
            raise Refused('damaged: its MD5 is not the ETag; not kept, run again')
        parts = [hashlib.md5(data[start:start + S3_PART]).digest()
                 for start in range(0, len(data), S3_PART)]
        # Parts of another size make another ETag, so a difference there says nothing.
        if tag in {whole, f'{hashlib.md5(b"".join(parts)).hexdigest()}-{len(parts)}'}:
            return 'size, gzip checksum and ETag match'
    return 'size and gzip checksum match'


def unpack(archive: Path, folder: Path) -> dict[str, str]:
    """
    Unpack an archive's google_16k; return the sha256 of its files; raises Refused, OSError.

    Only plain files are written, under checked names: no links, owners or permissions.
    """
    files = {}
    try:
        with gzip.open(archive) as stream:  # to its end, where the checksum is, unlike tarfile
            while stream.read(BLOCK):
                pass
        with tarfile.open(archive, 'r:gz') as tar:
            members = tar.getmembers()
            for member in members:
                if member.name.startswith('/') or '..' in PurePosixPath(member.name).parts or not (
                        member.isfile() or member.isdir()):
                    raise Refused(f'unsafe archive: {member.name!r} is a link or device, or lies '
                                  'outside; not kept')
            if sum(member.size for member in members) > MAX_UNPACKED:
                raise Refused(f'unsafe archive: it unpacks to more than {MAX_UNPACKED} bytes')
            for member in members:
                parts = PurePosixPath(member.name).parts
                if member.isfile() and MESH in parts[:-1] and not parts[-1].startswith('.'):
                    name = '/'.join(parts[parts.index(MESH):])
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    content = tar.extractfile(member)
                    assert content is not None, member  # a file has some
                    (folder / name).write_bytes(content.read())
                    files[name] = sha256(folder / name)
    except (EOFError, gzip.BadGzipFile, tarfile.TarError, zlib.error) as error:
        raise Refused(f'damaged archive ({error}); not kept, run again') from error
    if not any(re.fullmatch(f'{MESH}/[^/]+\\.obj', name) for name in files):
        raise Refused(f'its archive holds no {MESH}/*.obj')
    return dict(sorted(files.items()))


def sha256(path: Path) -> str:
    """Return a file's checksum."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
