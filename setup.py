"""Install vl2v_ros as an ament_python package, or as a wheel; package.xml says what it is."""

from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup

NAME = 'vl2v_ros'
MANIFEST = ElementTree.parse('package.xml').getroot()
MAINTAINER = MANIFEST.find('maintainer')
# Of config/: for training, which stays in the checkout.
OFFLINE = {'captions', 'distill', 'photo_sets.yaml', 'splits', 'studies', 'where'}


def shared_files() -> list[tuple[str, list[str]]]:
    """Launch files, configuration, models, messages, licences and the demo's pictures."""
    files = [Path('LICENSE'), Path('NOTICE'), Path('package.xml')]
    files += sorted(Path('launch').glob('*.launch.py'))
    files += sorted(path for folder in ('config', 'models') for path in Path(folder).rglob('*')
                    if path.is_file() and path.parts[1] not in OFFLINE)
    # Of the messages that vl2v_classify writes into bags.
    files += sorted(path for folder in ('vl2v_msgs/msg', 'tools/vision_msgs/msg')
                    for path in Path(folder).glob('*.msg'))
    files += sorted(path for path in Path('data/photos_sample').iterdir() if path.is_file())
    files += sorted(path for path in Path('data/ycb_sample/clutter').glob('*/*')
                    if not path.stem.endswith('_ids'))  # of `vl2v_demo --scene`
    return [(str(Path('share', NAME, path.parent)), [str(path)]) for path in files]


setup(
    name=NAME,
    version=MANIFEST.findtext('version'),
    description=MANIFEST.findtext('description'),
    maintainer=MAINTAINER.text,
    maintainer_email=MAINTAINER.get('email'),
    license=MANIFEST.findtext('license'),
    project_urls={url.get('type'): url.text for url in MANIFEST.iter('url')},
    python_requires='>=3.10',
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
        *shared_files(),
    ],
    # All that vl2v_ros/ imports without ROS, see test/house/test_release.py.
    install_requires=[
        'huggingface_hub>=0.26',
        'jinja2>=3.0',
        'matplotlib',
        'mcap>=1.4',
        'numpy',
        'open_clip_torch>=3.0',
        'openai>=1.40',
        'opencv-python',
        'openvino>=2024.0',
        'pillow',
        'PyYAML',
        'rosbags>=0.11',
        'safetensors>=0.4',
        'timm>=1.0.22',
        'torch>=2.1',
        'tqdm',
    ],
    extras_require={
        'mcp': ['mcp>=2.3'],  # vl2v_mcp: tools for a language model
        'onnx': ['onnxruntime>=1.18'],  # to run a student's ONNX file on a CPU
        'onnx-gpu': ['onnxruntime-gpu>=1.18'],  # the same on a GPU
        'test': ['pytest'],  # so that `colcon test` runs pytest
    },
    package_data={NAME: ['py.typed', 'command/templates/*.html']},
    zip_safe=True,
    entry_points={
        'console_scripts': [
            f'camera_node = {NAME}.nodes.camera_node:main',
            f'classifier_node = {NAME}.nodes.classifier_node:main',
            f'memory_node = {NAME}.nodes.remembering.memory_node:main',
            f'vl2v_bundle = {NAME}.command.bundle:main',
            f'vl2v_classify = {NAME}.command.classify:main',
            f'vl2v_demo = {NAME}.nodes.demo:main',
            f'vl2v_find = {NAME}.command.find:main',
            f'vl2v_health = {NAME}.nodes.health:main',
            f'vl2v_mcp = {NAME}.nodes.agents.mcp_server:main',
        ],
    },
)
