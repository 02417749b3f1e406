"""
Measure how many images per second a teacher over HTTP embeds, for a service on this machine.

python benchmarks/learning/teacher_rate.py

The service runs in a process of its own. It answers as soon as it has read a request, or after a
pause, as a service behind a network does, with the same rows for any images. Requests one by one,
and as many at a time as the teacher sends, take turns. It writes JSON.
"""
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import json
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
import statistics
import sys
import time
from typing import Any

from benchmarks import machine
import numpy as np
import torch
from training.teachers import http_teacher
import tyro
from vl2v_ros.files import write_json

ROOT = Path(__file__).resolve().parents[2]
WIDTH = 512  # of the embeddings
NAME = 'benchmark'  # of the service


@dataclass(frozen=True)
class Options:
    """What is measured."""

    images: int = 256  # Images of a query.
    image_size: int = 224  # Side of the images [px].
    pauses: tuple[float, ...] = (0.0, 0.1)  # Of the service before it answers, one run each [s].
    rounds: int = 5  # Queries of each run.
    out: Path = ROOT / 'docs/results/teacher_rate.json'  # JSON file to write.


class Service(BaseHTTPRequestHandler):
    """Answers without looking at the images."""

    protocol_version = 'HTTP/1.1'
    pause, image_size = 0.0, 0
    answers = [json.dumps({'embeddings': [[1.0 / (1 + at) for at in range(WIDTH)]] * count}
                          ).encode() for count in range(http_teacher.PART + 1)]

    def do_GET(self) -> None:  # noqa: N802
        """Say what the service is."""
        self._send(json.dumps({'identity': NAME, 'width': WIDTH, 'image_size': self.image_size}
                              ).encode())

    def do_POST(self) -> None:  # noqa: N802
        """Answer with a row per image."""
        body = self.rfile.read(int(self.headers['Content-Length']))
        time.sleep(self.pause)
        self._send(self.answers[body.count(b',') + 1])

    def _send(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def serve(pause: float, image_size: int, port: Connection) -> None:
    """Serve until the process is ended; send the port first."""
    Service.pause, Service.image_size = pause, image_size
    server = ThreadingHTTPServer(('127.0.0.1', 0), Service)
    port.send(server.server_port)
    server.serve_forever()


def measure(options: Options) -> dict[str, Any]:
    """Return the result as JSON can hold it; times are the client's."""
    side = options.image_size
    images = torch.rand(options.images, 3, side, side,
                        generator=torch.Generator().manual_seed(0))
    runs: dict[str, dict[str, list[float]]] = {}
    for pause in options.pauses:
        mine, theirs = get_context('spawn').Pipe()
        service = get_context('spawn').Process(target=serve, args=(pause, side, theirs))
        service.start()
        try:
            teacher = http_teacher.HttpTeacher(f'http://127.0.0.1:{mine.recv()}')
            for turn in range(-1, options.rounds):
                for at_once in (1, 8):
                    http_teacher.AT_ONCE = at_once
                    start, before = time.perf_counter(), time.process_time()
                    rows = teacher.embed_images(images)
                    used = time.process_time() - before
                    rate = len(images) / (time.perf_counter() - start)
                    assert np.isfinite(rows).all(), rows
                    if turn >= 0:  # the first is for warming up
                        run = runs.setdefault(f'{pause:g} s, {at_once} at once',
                                              {'images/s': [], 'CPU per image [ms]': []})
                        run['images/s'].append(rate)
                        run['CPU per image [ms]'].append(1e3 * used / len(images))
        finally:
            service.terminate()
            service.join()
    return {'machine': machine.describe(), 'images': options.images, 'image_size': side,
            'images per request': http_teacher.PART, 'runs': runs}


def table(result: dict[str, Any]) -> str:
    """Return Markdown."""
    lines = ['| service answers after, requests | images/s | CPU per image [ms] |',
             '|---|---:|---:|']
    for name, run in result['runs'].items():
        rates, used = run['images/s'], run['CPU per image [ms]']
        lines.append(f'| {name} | {statistics.median(rates):.0f} ({min(rates):.0f} to '
                     f'{max(rates):.0f}) | {statistics.median(used):.2f} |')
    return '\n'.join(lines)


def main() -> None:
    """Measure, print the table, and write the JSON."""
    options = tyro.cli(Options, description=__doc__)
    if min(options.images, options.image_size, options.rounds) < 1:
        sys.exit('teacher_rate: --images, --image-size, --rounds: expected at least 1, got '
                 f'{options.images}, {options.image_size}, {options.rounds}')
    result = measure(options)
    result['table'] = table(result)
    print(result['table'])
    write_json(options.out, result)


if __name__ == '__main__':
    main()
