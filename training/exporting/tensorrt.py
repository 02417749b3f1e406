"""Build a TensorRT engine from an ONNX file; needs TensorRT."""
from pathlib import Path

from vl2v_ros.files import replacing
from vl2v_ros.model.runtime.onnx_runtime import INPUT

INSTALL = ('install it for the CUDA version of this machine (pip install "tensorrt-cu12<11" or '
           '"tensorrt-cu13<11"; JetPack brings it), or build the engine on the robot: '
           'trtexec --onnx=FILE --saveEngine=FILE')


def build_engine(onnx: Path, out: Path, size: int, max_batch: int, fp16: bool) -> None:
    """
    Build a TensorRT engine, for this GPU and this version of TensorRT only.

    :param size: side S of the input [px].
    :param max_batch: the engine accepts 1 to `max_batch` images.
    :param fp16: let TensorRT compute in half precision where that is faster; TensorRT 10 only.
    :raises ValueError: if TensorRT is missing, is too new for `fp16`, or cannot build it.
    """
    try:
        import tensorrt
    except ImportError as error:
        raise ValueError(f'an engine needs TensorRT, and there is none ({error}); {INSTALL}'
                         ) from error
    if fp16 and not hasattr(tensorrt.BuilderFlag, 'FP16'):  # networks tell their types since 11
        raise ValueError(f'--fp16 needs TensorRT 10, found {tensorrt.__version__}; {INSTALL}')
    logger = tensorrt.Logger(tensorrt.Logger.WARNING)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx)):
        reasons = '; '.join(str(parser.get_error(n)) for n in range(parser.num_errors))
        raise ValueError(f'TensorRT {tensorrt.__version__} cannot read {onnx}: {reasons}')
    config = builder.create_builder_config()
    if fp16:
        config.set_flag(tensorrt.BuilderFlag.FP16)
    profile = builder.create_optimization_profile()
    profile.set_shape(INPUT, (1, 3, size, size), (1, 3, size, size), (max_batch, 3, size, size))
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise ValueError(f'TensorRT {tensorrt.__version__} could not build an engine of {onnx}; '
                         'its own lines above say why')
    with replacing(out) as temporary:
        temporary.write_bytes(engine)
