"""The thread of images: who runs in it, and what becomes of its errors."""
import threading

from std_msgs.msg import Int32
from support.ros_processes import Ros, wait_until
from vl2v_ros.nodes.image_executor import ImageExecutor


def test_only_its_thread_runs_its_callbacks_and_errors_are_told(ros: Ros) -> None:
    threads: list[str] = []
    failures: list[Exception] = []

    def heard(message: Int32) -> None:
        threads.append(threading.current_thread().name)
        if message.data:
            raise RuntimeError(f'no number {message.data}')

    def listener() -> tuple[ImageExecutor, object]:
        executor = ImageExecutor(ros.node, failures.append)
        subscription = ros.node.create_subscription(Int32, 'number', heard, 10,
                                                    callback_group=executor.group)
        executor.wake()
        return executor, subscription

    publisher = ros.offer(Int32, 'number')
    for number in 0, 7:  # one that is stopped, and one that fails
        executor, subscription = listener()
        before = len(threads)
        wait_until(lambda: publisher.publish(Int32(data=number)) or len(threads) > before,
                   'a number', step=0.1)
        if number:
            wait_until(lambda: failures, 'an error')
        executor.close()
        ros.node.destroy_subscription(subscription)
    assert set(threads) == {'images'}
    assert [str(failure) for failure in failures] == ['no number 7']
