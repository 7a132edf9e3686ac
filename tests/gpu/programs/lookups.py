"""Where lookups lead: for each `EXPORTED BASE VERSION FLAGS` on standard input, the library that
dlsym's answer lies in, that cuGetProcAddress's lies in, and whether both are the same address.
"""

import ctypes
import json
import os
import sys


class Found(ctypes.Structure):
    _fields_ = [
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    ]


libc = ctypes.CDLL(None)
libc.dlsym.restype = ctypes.c_void_p
libc.dlsym.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
libc.dladdr.argtypes = [ctypes.c_void_p, ctypes.POINTER(Found)]
driver = ctypes.CDLL("libcuda.so.1")
driver.cuInit(0)


def library_of(address):
    found = Found()
    if not address or not libc.dladdr(address, ctypes.byref(found)):
        return None
    return os.path.realpath(found.file.decode())


def ask(base, version, flags):
    address, status = ctypes.c_void_p(), ctypes.c_int()
    driver.cuGetProcAddress_v2(
        base.encode(),
        ctypes.byref(address),
        ctypes.c_int(version),
        ctypes.c_uint64(flags),
        ctypes.byref(status),
    )
    return address.value


rows = {}
for line in sys.stdin:
    exported, base, version, flags = line.split()
    symbol = libc.dlsym(driver._handle, exported.encode())
    answer = ask(base, int(version), int(flags))
    rows[exported] = {
        "dlsym": library_of(symbol),
        "procaddress": library_of(answer),
        "same": symbol == answer,
    }
version = ctypes.c_int()
driver.cuDriverGetVersion(ctypes.byref(version))
print(json.dumps({"version": version.value, "rows": rows}))
