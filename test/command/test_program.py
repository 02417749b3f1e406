"""How commands end, in a process that goes on."""
import signal

import pytest
from vl2v_ros.command.program import ending


@pytest.mark.parametrize(('error', 'said'), [(ValueError('no'), 'name: no'),
                                             (KeyboardInterrupt(), '130')])
def test_the_process_is_afterwards_as_it_was(error: BaseException, said: str) -> None:
    numbers = signal.SIGTERM, signal.SIGPIPE
    before = [signal.getsignal(number) for number in numbers]
    with pytest.raises(SystemExit, match=said), ending('name'):
        assert [signal.getsignal(number) for number in numbers] != before
        raise error
    assert [signal.getsignal(number) for number in numbers] == before
