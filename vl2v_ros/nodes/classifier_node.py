"""The classifier as a ROS 2 lifecycle node."""
import argparse
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
import gc
import itertools
from pathlib import Path
import signal
import sys
import threading
import time
import traceback
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
import numpy as np
from rcl_interfaces.msg import SetParametersResult
import rclpy
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import NameValidationException, ParameterException
from rclpy.executors import MultiThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import LabelInfo, VisionInfo
from vl2v_msgs.msg import Vocabulary as VocabularyMessage
from vl2v_msgs.srv import ClassifyImage, SetVocabulary
from vl2v_ros import cached_text, checkpoint, stages, why
from vl2v_ros.classifier import Classifier, Prediction
from vl2v_ros.frame import Frame
from vl2v_ros.nodes import messages
from vl2v_ros.nodes.camera_topics import CameraTopics
from vl2v_ros.nodes.diagnostics import camera_status, node_status, Rates, vocabulary_status
from vl2v_ros.nodes.image_executor import ImageExecutor
from vl2v_ros.nodes.parameters import changed, ClassifierParameters, declare
from vl2v_ros.nodes.vocabularies import cache_dir, check_parameters, Vocabularies
from vl2v_ros.nodes.worker import Job, Worker
from vl2v_ros.runtime import free_memory
from vl2v_ros.vocabulary import Vocabulary

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
WARM_UP_SIZES = ((480, 640), (1080, 1920))  # (H, W) [px]
# One thread each for changes of the vocabulary, requests that wait for their answer, and the rest.
THREADS = 3
REFUSALS = ParameterException, NameValidationException, ValueError  # of the node that is made


class ClassifierNode(LifecycleNode):
    """
    Labels the newest image of every camera, and lets its vocabulary be changed meanwhile.

    One thread only stores images, the executor's build vocabularies, the worker's runs the model;
    one more may wait for a language model. They share nothing but references that are
    replaced as a whole.
    """

    def __init__(self, **kwargs: Any) -> None:
        """
        Declare parameters, offer topics and services; load nothing yet.

        :raises ValueError: for a parameter outside of its choices.
        :raises rclpy.exceptions.NameValidationException: for a camera no topic can be named after.
        """
        super().__init__('classifier', **kwargs)
        self._settings = declare(self, ClassifierParameters)
        check_parameters(self._settings)
        names = self._settings.cameras
        if len(set(names)) != len(names):
            raise ValueError(f'parameter cameras: expected different names, got {names}')
        self._cameras = [CameraTopics(self, name, self._settings.image_transport,
                                      self._settings.overlay) for name in names]
        self._images: ImageExecutor | None = None
        self._classifier: Classifier | None = None
        self._vocabularies: Vocabularies | None = None
        self._versions = itertools.count(1)  # of vocabularies; no number stands for two
        self._worker: Worker | None = None
        self._rates = Rates()
        self._problem = ''  # of the last attempt to configure it
        self._changing = threading.RLock()  # so that diagnostics see no half-made state
        self.failed = False
        self.add_on_set_parameters_callback(self._on_parameters)
        self._offer()

    def _offer(self) -> None:
        self._vocabulary_topic = self.create_publisher(VocabularyMessage, '~/vocabulary', LATCHED)
        self._vision_info_topic = self.create_publisher(VisionInfo, '~/vision_info', LATCHED)
        self._label_info_topic = self.create_publisher(LabelInfo, '~/label_info', LATCHED)
        self._diagnostics_topic = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        # A group each, so that neither holds up the images or the other.
        self.create_service(SetVocabulary, '~/set_vocabulary', self._on_set_vocabulary,
                            callback_group=MutuallyExclusiveCallbackGroup())
        self.create_service(ClassifyImage, '~/classify', self._on_classify,
                            callback_group=MutuallyExclusiveCallbackGroup())
        # By a clock that never stands still, as simulated time may, and in a group that waits for
        # nothing: once a second, the executor looks around, whatever wake-up it has missed.
        self.create_timer(1.0, self._on_diagnostics, MutuallyExclusiveCallbackGroup(),
                          Clock(clock_type=ClockType.STEADY_TIME))

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the student and the vocabulary and warm up."""
        self._problem = ''
        try:
            self._configure()
        except ValueError as error:
            self._problem = str(error)
            self.get_logger().fatal(self._problem)
            self.release()
            return TransitionCallbackReturn.FAILURE
        except Exception:
            if self.context.ok():  # else the node was told to stop while it starts
                self.get_logger().fatal(traceback.format_exc())  # rclpy would say nothing
            raise
        return super().on_configure(state)

    def _configure(self) -> None:
        parameters, log = self._settings, self.get_logger().info
        if not parameters.checkpoint:
            raise ValueError('expected a student: set the parameter checkpoint to a *.safetensors '
                             'file')
        path = Path(parameters.checkpoint).expanduser()
        student = checkpoint.look(path, cache_dir(parameters) / 'graphs')
        spec = student.spec
        log(f'student {path}: {spec.backbone}, {spec.image_size} px, width {spec.width}, '
            f'teacher: {spec.teacher or "not named"}')
        self._classifier = Classifier(student, parameters.device, parameters.half)
        log(f'runs on {self._classifier.runtime.description}')
        if parameters.unknown_threshold is None:
            self.set_parameters([Parameter('unknown_threshold', value=spec.unknown_threshold)])
        encoder = cached_text.open_text_tower(spec.text_tower, spec.width, path.parent,
                                              cache_dir(parameters))
        self._vocabularies = Vocabularies(lambda: self._settings, encoder, spec.templates,
                                          self._versions, self._announce, self.get_logger())
        start = time.monotonic()
        for height, width in WARM_UP_SIZES:
            frame = Frame(np.zeros((height, width, 3), np.uint8))
            for batch in range(1, len(self._cameras) + 1):
                self._classifier.classify([frame] * batch, self._vocabularies.in_force)
        log(f'warmed up in {time.monotonic() - start:.2f} s')

    def release(self) -> None:
        """Let go of the model and of the vocabulary, and of what is asked for that."""
        with self._changing:
            if self._vocabularies:
                self._vocabularies.close()
            self._classifier = self._vocabularies = None
        gc.unfreeze()
        free_memory()

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Listen to the cameras and label what they show."""
        vocabularies = self._vocabularies
        with self._changing:
            self._worker = Worker(self._classifier, lambda: (
                vocabularies.in_force, self._settings), self._on_failure)
            self._images = ImageExecutor(self, self._on_failure)
            for camera in self._cameras:
                camera.open(partial(self._on_image, camera, self._worker), self._images)
        self.get_logger().info('labels images of ' + ', '.join(
            camera.topics['raw'] for camera in self._cameras))
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening and wait for the frames in work."""
        self.stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give back the memory of the model, on the GPU too."""
        self.release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop from any state."""
        self.stop()
        self.release()
        return super().on_shutdown(state)

    def stop(self) -> None:
        """Stop listening, and wait for the frames in work."""
        with self._changing:
            if self._images:
                self._images.close()
                self._images = None
            for camera in self._cameras:
                camera.close()
            if self._worker:
                self._worker.close()
                self._worker = None

    def _on_failure(self, error: Exception) -> None:
        if self.context.ok():  # else the node is just being stopped
            self.failed = True
            self.get_logger().fatal(''.join(traceback.format_exception(error)))
            self.context.try_shutdown()

    @staticmethod
    def _on_image(camera: CameraTopics, worker: Worker, message: Image | CompressedImage) -> None:
        worker.submit(camera.name, Job(
            message, lambda frame, prediction, _, settings: camera.answer(
                message, frame, prediction, settings), camera.refuse))

    def _on_classify(self, request: ClassifyImage.Request, response: ClassifyImage.Response
                     ) -> ClassifyImage.Response:
        worker, classifier, done = self._worker, self._classifier, Future()
        if worker is None:
            response.message = 'the node is not active; activate it first'
            return response

        def answer(frame: Frame, prediction: Prediction, vocabulary: Vocabulary,
                   settings: ClassifierParameters) -> None:
            embedding, = classifier.embed([frame])  # here, as only this thread runs the model
            done.set_result((prediction, why.reasons(embedding, vocabulary, prediction.labels)))
        worker.submit(done, Job(request.image, answer,
                                lambda reason: done.set_exception(ValueError(reason))))
        try:
            prediction, reasons = done.result()
            response.result = messages.to_label_array(prediction, request.image.header)
            response.matches = messages.to_description_matches(reasons)
            response.success = True
        except ValueError as error:
            response.message = str(error)
        return response

    def _on_set_vocabulary(self, request: SetVocabulary.Request, response: SetVocabulary.Response
                           ) -> SetVocabulary.Response:
        start, vocabularies = time.monotonic(), self._vocabularies
        try:
            if vocabularies is None:
                raise ValueError('the node is not configured; configure it first')
            response.message = vocabularies.change(request)
            response.success = True
        except ValueError as error:
            response.message = f'{error}; the vocabulary stays as it was'
            self.get_logger().warning(f'set_vocabulary: {response.message}')
        if vocabularies:
            response.version = vocabularies.in_force.version
            response.labels = list(vocabularies.in_force.labels)
        response.seconds = time.monotonic() - start
        return response

    def _announce(self, vocabulary: Vocabulary) -> None:
        header = Header(stamp=self.get_clock().now().to_msg())
        self._vocabulary_topic.publish(messages.to_vocabulary(vocabulary))
        self._vision_info_topic.publish(messages.to_vision_info(
            vocabulary, self._vocabulary_topic.topic_name, header))
        self._publish_label_info()

    def _publish_label_info(self) -> None:
        self._label_info_topic.publish(messages.to_label_info(
            self._settings.score_threshold, Header(stamp=self.get_clock().now().to_msg())))

    def _on_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        if any(parameter.value is None for parameter in parameters):
            return SetParametersResult(successful=False, reason='expected a value, got none')
        settings = changed(self._settings, parameters)
        try:
            check_parameters(settings)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        before, self._settings = self._settings, settings
        if before.score_threshold != settings.score_threshold and self._vocabularies:
            self._publish_label_info()
        return SetParametersResult(successful=True)

    def _on_diagnostics(self) -> None:
        with self._changing:
            status = self._status()
        self._diagnostics_topic.publish(DiagnosticArray(
            header=Header(stamp=self.get_clock().now().to_msg()), status=status))

    def _status(self) -> list[DiagnosticStatus]:
        worker, vocabularies = self._worker, self._vocabularies
        state = 'active' if worker else 'inactive, activate it' if vocabularies else (
            'unconfigured, configure it')
        name = self.get_fully_qualified_name()
        status = [node_status(name, state, self._problem, self._settings)]
        if vocabularies:
            status.append(vocabulary_status(name, vocabularies))
        if worker:
            vocabulary = vocabularies.in_force
            facts = {'device': self._classifier.runtime.description,
                     'vocabulary version': vocabulary.version, 'labels': len(vocabulary.labels)}
            for camera in self._cameras:
                camera.follow()
                status.append(camera_status(name, camera, worker.dropped(camera.name),
                                            self._rates, facts))
        return status


def _profile(args: list[str]) -> Path | None:
    """Return where the command line wants a profile; exit with 2 if that cannot be."""
    parser = argparse.ArgumentParser(prog='classifier_node', description=__doc__)
    parser.add_argument('--profile', metavar='FILE.json', default='',
                        help='measure where the time of a frame goes, and write it every 10 s and '
                        'at the end; at the end also as a picture, FILE.png')
    options = parser.parse_args(remove_ros_args(args)[1:])
    path = Path(options.profile).expanduser()
    if options.profile and (path.suffix != '.json' or not path.parent.is_dir()):
        parser.error('--profile: expected a file that ends in .json, in a folder that is there, '
                     f'got {options.profile}')
    return path if options.profile else None


def _save_profile(path: Path, node: ClassifierNode, picture: bool = False) -> None:
    try:
        stages.save(path, picture)
    except OSError as error:
        node.get_logger().warning(f'--profile {path}: cannot be written: {error}')


def main(args: list[str] | None = None) -> None:
    """Run the node until it is told to stop; exit with 1 if it cannot start or fails."""
    profile = _profile(sys.argv if args is None else args)
    node, starting = None, True

    def on_signal(*_: object) -> None:
        if starting:  # later, rclpy's own handler ends `spin`, which leaves no thread half made
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    rclpy.init(args=args)
    try:
        node = ClassifierNode()
        executor = MultiThreadedExecutor(THREADS)
        executor.add_node(node)
        if profile:
            stages.recorder = stages.Recorder()
            node.create_timer(10.0, partial(_save_profile, profile, node))
        if node.get_parameter('autostart').value:
            for transition in (node.trigger_configure, node.trigger_activate):
                if transition() != TransitionCallbackReturn.SUCCESS:
                    sys.exit(int(rclpy.ok()))  # 0 if it was told to stop meanwhile
        else:
            node.get_logger().info('waits to be configured, as autostart is false')
        # Else a collection, which would walk through all of torch, could hold up frames for 0.2 s.
        gc.collect()
        gc.freeze()
        starting = False
        executor.spin()
    except KeyboardInterrupt:
        pass
    except Exception as error:
        if rclpy.ok():  # else it was told to stop, at a moment when rclpy does not expect it
            if node or not isinstance(error, REFUSALS):
                raise
            sys.exit(f'classifier_node: {error}')
    finally:
        if node:
            node.stop()
            node.release()
        rclpy.try_shutdown()
        if node and profile:
            _save_profile(profile, node, picture=True)
    sys.exit(int(bool(node) and node.failed))


if __name__ == '__main__':
    main()
