r"""
A CLIP node of the usual kind, to compare the classifier with.

It is written as most public nodes: the default DDS profile and queue depth 10; each image becomes
a PIL image and goes through open_clip's own transform into the ViT-B/32 image tower in eager
PyTorch. The text embeddings are computed once or, with the parameter `text_per_frame`, for every
frame. The weights are random, since only time is measured. An answer has the header of its image.

python benchmarks/nodes/peer_node.py --ros-args -p labels:="['mug', 'banana']" \
    -r image:=/camera/image
"""
import io

import numpy as np
import open_clip
from PIL import Image as PillowImage
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image
import torch
from vision_msgs.msg import Classification, ObjectHypothesis

MODEL = 'ViT-B-32'


class PeerNode(Node):
    """Labels every image in the order of arrival, in the executor's one thread."""

    def __init__(self) -> None:
        super().__init__('peer')
        self._labels: list[str] = self.declare_parameter('labels', ['mug', 'banana']).value
        self._text_per_frame: bool = self.declare_parameter('text_per_frame', False).value
        self._device = 'cuda' if torch.cuda.is_available() else 'cpu'
        self._model, _, self._transform = open_clip.create_model_and_transforms(MODEL)
        self._model.eval().to(self._device)
        self._tokenizer = open_clip.get_tokenizer(MODEL)
        self._text = self._encode_labels()
        self._publisher = self.create_publisher(Classification, '~/classification', 10)
        self.create_subscription(Image, 'image', self._on_image, 10)
        self.create_subscription(CompressedImage, 'image/compressed', self._on_compressed, 10)
        self.get_logger().info(f'{MODEL} on {self._device}, {len(self._labels)} labels')

    @torch.no_grad()
    def _encode_labels(self) -> torch.Tensor:
        prompts = [f'a photo of a {label}' for label in self._labels]
        text = self._model.encode_text(self._tokenizer(prompts).to(self._device))
        return text / text.norm(dim=-1, keepdim=True)

    def _on_image(self, message: Image) -> None:
        pixels = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
        self._label(PillowImage.fromarray(pixels), message)

    def _on_compressed(self, message: CompressedImage) -> None:
        self._label(PillowImage.open(io.BytesIO(message.data)).convert('RGB'), message)

    @torch.no_grad()
    def _label(self, image: PillowImage.Image, message: Image | CompressedImage) -> None:
        pixels = self._transform(image).unsqueeze(0).to(self._device)
        features = self._model.encode_image(pixels)
        features /= features.norm(dim=-1, keepdim=True)
        text = self._encode_labels() if self._text_per_frame else self._text
        scores = (100.0 * features @ text.T).softmax(dim=-1)[0].cpu().numpy()
        answer = Classification(header=message.header)
        for index in scores.argsort()[::-1][:5]:
            answer.results.append(ObjectHypothesis(class_id=self._labels[index],
                                                   score=float(scores[index])))
        self._publisher.publish(answer)


def main() -> None:
    """Run until a signal comes."""
    rclpy.init()
    try:
        rclpy.spin(PeerNode())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()


if __name__ == '__main__':
    main()
