# cuda.h and nvml.h come from PyPI (nvidia-cuda-runtime, nvidia-nvml-dev: headers only, nothing of them is linked or
# shipped), so that no CUDA toolkit is needed to build. -DGPUSLICE_CUDA_INCLUDE=DIR names another place.
if(NOT GPUSLICE_CUDA_INCLUDE)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  execute_process(
    COMMAND "${Python3_EXECUTABLE}" -c
            "import pathlib, sys\nfor path in sys.path:\n    include = pathlib.Path(path, 'nvidia/cu13/include')\n    if (include / 'cuda.h').exists() and (include / 'nvml.h').exists():\n        print(include, end='')\n        break"
    OUTPUT_VARIABLE GPUSLICE_CUDA_INCLUDE)
  if(NOT GPUSLICE_CUDA_INCLUDE)
    message(FATAL_ERROR "cuda.h and nvml.h not found: pip install nvidia-cuda-runtime nvidia-nvml-dev, "
                        "or pass -DGPUSLICE_CUDA_INCLUDE=DIR.")
  endif()
endif()
add_library(gpuslice_cuda_headers INTERFACE)
target_include_directories(gpuslice_cuda_headers SYSTEM INTERFACE "${GPUSLICE_CUDA_INCLUDE}")
