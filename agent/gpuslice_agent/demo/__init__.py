"""The tenants of `gpuslice demo`: programs of the CUDA driver API that know nothing of gpuslice."""
