"""The classifier as a ROS 2 lifecycle node."""
from collections.abc import Sequence
from functools import partial
import gc
import itertools
import signal
import sys
import threading
import time
import traceback
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
import rclpy
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import NameValidationException, ParameterException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_msgs.msg import Header
from vl2v_msgs.srv import ClassifyImage, SetVocabulary
from vl2v_ros import frame_profile
from vl2v_ros.model.runtime.choose import free_memory
from vl2v_ros.nodes.diagnostics import Bond, Rates, statuses
from vl2v_ros.nodes.image_executor import ImageExecutor, PatientExecutor
from vl2v_ros.nodes.loaded import load, Loaded, open_student, Running
from vl2v_ros.nodes.parameters import changed, ClassifierParameters, declare
from vl2v_ros.nodes.program import begin, profile_path, refusing, save_profile, until_stopped
from vl2v_ros.nodes.services.classify_image import classify
from vl2v_ros.nodes.services.encode import EncodeServices, NOT_ACTIVE
from vl2v_ros.nodes.services.teach import TeachServices
from vl2v_ros.nodes.topics.camera_topics import CameraTopics
from vl2v_ros.nodes.topics.looker import Looker
from vl2v_ros.nodes.topics.region_topics import RegionTopics
from vl2v_ros.nodes.topics.vocabulary_topics import VocabularyTopics
from vl2v_ros.nodes.topics.where_topics import WhereTopics
from vl2v_ros.nodes.vocabulary_keeper import check_parameters
from vl2v_ros.nodes.worker import Current, Worker
from vl2v_ros.words.vocabulary import Vocabulary

# One thread for each service that takes long, and one for everything else.
THREADS = 7
REFUSALS = ParameterException, ValueError  # raised by ClassifierNode()


class ClassifierNode(LifecycleNode):
    """
    Labels the newest image of every camera; its vocabulary can be changed while it runs.

    The image thread only stores images, the threads of the executor build vocabularies, and the
    worker's thread runs the model. One looks for labels in images while somebody wants that, and
    one may wait for a language model. They share only references that are replaced as a whole.
    """

    def __init__(self, **kwargs: Any) -> None:
        """
        Declare parameters, create topics and services; load nothing yet.

        :raises ValueError: for an invalid parameter.
        :raises rclpy.exceptions.ParameterException: for a parameter out of range.
        """
        super().__init__('classifier', **kwargs)
        self._settings = declare(self, ClassifierParameters)
        check_parameters(self._settings)
        names = self._settings.cameras
        if len(set(names)) != len(names):
            raise ValueError(f'parameter cameras: expected different names, got {names}')
        try:
            self._cameras = [CameraTopics(self, name, self._settings.image_transport,
                                          self._settings.overlay) for name in names]
        except NameValidationException as error:
            raise ValueError('parameter cameras: ' + ' '.join(str(error).split())) from error
        self._regions = [RegionTopics(self, camera) for camera in self._cameras]
        self._loaded: Loaded | None = None
        self._running: Running | None = None
        for camera, regions in zip(self._cameras, self._regions, strict=True):
            WhereTopics(self, camera, regions, lambda: (self._loaded, self._running))
        self._versions = itertools.count(1)  # numbers of vocabularies, each used once
        self._rates = Rates()
        self._problem = ''  # error of the last attempt to configure the node
        self._changing = threading.RLock()  # so that diagnostics see no incomplete state
        self.failed = False
        self.add_on_set_parameters_callback(self._on_parameters)
        self._offer()
        # Without autostart a lifecycle manager is expected.
        self._bond = None if self._settings.autostart else Bond(self)

    def _offer(self) -> None:
        self._topics = VocabularyTopics(self)
        self._diagnostics_topic = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        # A callback group each, so that they do not block each other.
        self.create_service(SetVocabulary, '~/set_vocabulary', self._on_set_vocabulary,
                            callback_group=MutuallyExclusiveCallbackGroup())
        self.create_service(ClassifyImage, '~/classify', self._on_classify,
                            callback_group=MutuallyExclusiveCallbackGroup())
        EncodeServices(self, lambda: (self._loaded, self._running))
        TeachServices(self, self._cameras, lambda: (self._loaded, self._running),
                      lambda: self._settings.text_weight)
        # By the steady clock, as simulated time may stand still, and in a group of its own: once a
        # second the executor looks at all callbacks, even if it has missed a wake-up.
        self.create_timer(1.0, self._on_diagnostics, MutuallyExclusiveCallbackGroup(),
                          Clock(clock_type=ClockType.STEADY_TIME))

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the student and the vocabulary, and warm up."""
        self._problem = ''
        try:
            self._configure()
        except ValueError as error:
            self._problem = str(error)
            self.get_logger().fatal(self._problem)
            self.release()
            return TransitionCallbackReturn.FAILURE
        except Exception:
            if self.context.ok():  # else the node was stopped during its start
                self.get_logger().fatal(traceback.format_exc())  # rclpy would log nothing
            raise
        return super().on_configure(state)

    def _configure(self) -> None:
        labeller = open_student(self._settings, self.get_logger())
        if self._settings.unknown_threshold is None:
            self.set_parameters([Parameter('unknown_threshold',
                                           value=labeller.spec.unknown_threshold)])
        self._loaded = load(labeller, lambda: self._settings, self._versions, self._announce,
                            self.get_logger())
        for camera in self._cameras:
            camera.embeddings.origin = self._loaded.origin

    def release(self) -> None:
        """Free the model and the vocabulary, and cancel a request for descriptions."""
        with self._changing:
            if self._loaded:
                self._loaded.close()
            self._loaded = None
        gc.unfreeze()
        free_memory()

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the cameras and label their images."""
        loaded = self._loaded
        assert loaded, 'ROS activates only what is configured'
        with self._changing:
            worker = Worker(loaded.classifier, lambda: Current(
                loaded.keeper.current, self._settings), self._on_failure)
            images, boxes = (ImageExecutor(self, self._on_failure) for _ in range(2))
            self._running = Running(worker, images, boxes, Looker(self._on_failure))
            for camera, regions in zip(self._cameras, self._regions, strict=True):
                regions.open(worker, lambda: self._settings, boxes)
                camera.open(regions.on_image, images)
        self.get_logger().info('labels images of ' + ', '.join(
            camera.topics['raw'] for camera in self._cameras))
        if self._bond:
            self._bond.form()
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe from the cameras and wait for the current batch."""
        self.stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the memory of the model, on the GPU too."""
        self.release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop from any state."""
        self.stop()
        self.release()
        return super().on_shutdown(state)

    def stop(self) -> None:
        """Unsubscribe from the cameras and wait for the current batch."""
        with self._changing:
            running, self._running = self._running, None
            if running:
                running.images.close()
                running.boxes.close()
            for camera, regions in zip(self._cameras, self._regions, strict=True):
                camera.close()
                regions.close()
            if running:
                running.worker.close()
                running.looker.close()
        if self._bond:
            self._bond.end()

    def _on_failure(self, error: Exception) -> None:
        if self.context.ok():  # else the node is stopping
            self.failed = True
            self.get_logger().fatal(''.join(traceback.format_exception(error)))
            self.context.try_shutdown()

    def _on_classify(self, request: ClassifyImage.Request, response: ClassifyImage.Response
                     ) -> ClassifyImage.Response:
        running = self._running
        if running is None:
            response.message = NOT_ACTIVE
            return response
        return classify(running.worker, request)

    def _on_set_vocabulary(self, request: SetVocabulary.Request, response: SetVocabulary.Response
                           ) -> SetVocabulary.Response:
        start, loaded = time.monotonic(), self._loaded
        try:
            if loaded is None:
                raise ValueError('the node is not configured; configure it first')
            response.message = loaded.keeper.change(request)
            response.success = True
        except ValueError as error:
            response.message = f'{error}; the vocabulary is unchanged'
            self.get_logger().warning(f'set_vocabulary: {response.message}')
        if loaded:
            response.version = loaded.keeper.current.version
            response.labels = list(loaded.keeper.current.labels)
        response.seconds = time.monotonic() - start
        return response

    def _announce(self, vocabulary: Vocabulary) -> None:
        self._topics.announce(vocabulary, self._settings.score_threshold)

    def _on_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        if any(parameter.value is None for parameter in parameters):
            return SetParametersResult(successful=False, reason='expected a value, got none')
        settings = changed(self._settings, parameters)
        try:
            check_parameters(settings)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        before, self._settings = self._settings, settings
        if before.score_threshold != settings.score_threshold and self._loaded:
            self._topics.announce_threshold(settings.score_threshold)
        return SetParametersResult(successful=True)

    def _on_diagnostics(self) -> None:
        with self._changing:
            status = statuses(self.get_fully_qualified_name(), self._settings, self._problem,
                              self._loaded, self._running, self._cameras, self._regions,
                              self._rates)
        self._diagnostics_topic.publish(DiagnosticArray(
            header=Header(stamp=self.get_clock().now().to_msg()), status=status))


def main(args: list[str] | None = None) -> None:
    """Run the node until it is stopped; exit with 1 if it cannot start or fails."""
    profile = profile_path('classifier_node', args, __doc__)
    node, starting = None, True

    def on_signal(*_: object) -> None:
        if starting:  # later, rclpy's own handler ends `spin`
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    begin('classifier_node', args)
    with until_stopped():
        with refusing('classifier_node', *REFUSALS):
            node = ClassifierNode()
        try:
            executor = PatientExecutor(THREADS)
            executor.add_node(node)
            if profile:
                frame_profile.recorder = frame_profile.Recorder()
                node.create_timer(10.0, partial(save_profile, profile, node))
            start(node)
            starting = False
            executor.spin()
        finally:
            node.stop()
            node.release()
    if node and profile:
        save_profile(profile, node, picture=True)
    sys.exit(int(bool(node) and node.failed))


def start(node: ClassifierNode) -> None:
    """Configure and activate the node if `autostart` is true; exit if that fails."""
    if node.get_parameter('autostart').value:
        for transition in (node.trigger_configure, node.trigger_activate):
            if transition() != TransitionCallbackReturn.SUCCESS:
                sys.exit(int(rclpy.ok()))  # 0 if the node was stopped during its start
    else:
        node.get_logger().info('waits to be configured, as autostart is false')
    # A frame needs Python's lock several times; by default each may take 5 ms from a busy thread.
    sys.setswitchinterval(0.0005)
    # Otherwise a garbage collection, which visits all of torch, could delay frames by 0.2 s.
    gc.collect()
    gc.freeze()


if __name__ == '__main__':
    main()
