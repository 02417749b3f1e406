"""A server that answers as a language model, and parameters of a node that asks it."""
from collections.abc import Iterator

import pytest
from support import tiny_models
from support.chat_server import chat_server, ChatServer, MODEL


@pytest.fixture(scope='module')
def server() -> Iterator[ChatServer]:
    with chat_server() as server:
        yield server


@pytest.fixture(scope='module')
def asking(tmp_path_factory: pytest.TempPathFactory, server: ChatServer) -> dict[str, object]:
    """Return parameters of a small classifier that can ask."""
    from support.ros_processes import LABELS  # there only with ROS
    folder = tmp_path_factory.mktemp('tiny')
    tower = tiny_models.write_tower(folder)
    path = tiny_models.write_student(folder / 'student.safetensors',
                                     tiny_models.student(text_tower=tower))
    return {'checkpoint': path, 'vocabulary': ', '.join(LABELS),
            'cache_dir': folder / 'cache', 'device': 'cpu', 'llm_endpoint': server.url,
            'llm_model': MODEL}


@pytest.fixture
def asked_server(server: ChatServer) -> Iterator[ChatServer]:
    """Yield the server, which answers nothing until it is opened."""
    server.reset()
    server.open.clear()
    yield server
    server.reset()
