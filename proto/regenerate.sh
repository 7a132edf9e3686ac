#!/bin/sh
# Writes the Python of every .proto beside it. The result is committed; CI runs this and expects no difference.
# Generated code refuses a runtime older than the generator, so the generator is the oldest version we support.
set -eu
cd "$(dirname "$0")"
python=${PYTHON:-python3}
want=1.80.0
have=$("$python" -c 'import importlib.metadata as m; print(m.version("grpcio-tools"))')
if [ "$have" != "$want" ]; then
  echo "grpcio-tools $want is needed, $have is there: pip install grpcio-tools==$want mypy-protobuf==5.1.0" >&2
  exit 1
fi
PATH="$("$python" -c 'import sysconfig; print(sysconfig.get_path("scripts"))'):$PATH"
find gpuslice_proto -name '*.proto' | sort | while read -r file; do
  "$python" -m grpc_tools.protoc -I . --python_out=. --mypy_out=. --grpc_python_out=. --mypy_grpc_out=. "$file"
done
