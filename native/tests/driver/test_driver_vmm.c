/* Memory as handles: mapped, released in any order, and shared between two processes. */
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "node.h"

static const CUmemAllocationProp exportable = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                               .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
                                               .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}};
static const CUmemAccessDesc access_of_0 = {.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0},
                                            .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};

static void send_descriptor(int socket, int descriptor) {
    char byte = 0, control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec data = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
    CHECK_EQUAL(sendmsg(socket, &message, 0), 1);
}

static int receive_descriptor(int socket) {
    char byte, control[CMSG_SPACE(sizeof(int))];
    struct iovec data = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    CHECK_EQUAL(recvmsg(socket, &message, 0), 1);
    int descriptor;
    memcpy(&descriptor, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof descriptor);
    return descriptor;
}

static CUdeviceptr map(CUmemGenericAllocationHandle handle, size_t bytes) {
    CUdeviceptr address;
    OK(cuMemAddressReserve(&address, bytes, 0, 0, 0));
    OK(cuMemMap(address, bytes, 0, handle, 0));
    OK(cuMemSetAccess(address, bytes, &access_of_0, 1));
    return address;
}

/* The other process: reads what the first wrote, writes something itself, goes. */
static int importer(int socket) {
    int descriptor = receive_descriptor(socket);
    context_new();
    CUmemGenericAllocationHandle handle;
    OK(cuMemImportFromShareableHandle(&handle, (void *)(intptr_t)descriptor, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
    close(descriptor);
    CUdeviceptr address = map(handle, BLOCK);
    uint32_t value;
    OK(cuMemcpyDtoH_v2(&value, address + 1024, 4));
    CHECK_EQUAL(value, 0x12345678);
    OK(cuMemsetD32_v2(address + 1024, 0x55, 1));
    OK(cuCtxSynchronize());
    return 0;
}

/* Opens the handle of linear memory, adds one to its first word and closes it. */
static int ipc_opener(int socket) {
    CUipcMemHandle handle;
    if (recv(socket, &handle, sizeof handle, MSG_WAITALL) != sizeof handle)
        return 1;
    context_new();
    CUdeviceptr address;
    uint32_t value;
    OK(cuIpcOpenMemHandle_v2(&address, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
    OK(cuMemcpyDtoH_v2(&value, address, 4));
    value++;
    OK(cuMemcpyHtoD_v2(address, &value, 4));
    CHECK_EQUAL(cuMemFree_v2(address), CUDA_ERROR_INVALID_VALUE);
    OK(cuIpcCloseMemHandle(address));
    return 0;
}

static pid_t child, opener;
static int sockets[2], opener_sockets[2];

CASE(two_processes_see_the_same_bytes_and_the_card_counts_them_once) {
    context_new();
    size_t before = free_bytes();
    CUmemGenericAllocationHandle handle;
    OK(cuMemCreate(&handle, BLOCK, &exportable, 0));
    CHECK_EQUAL(before - free_bytes(), BLOCK);
    CUdeviceptr address = map(handle, BLOCK);
    OK(cuMemsetD32_v2(address + 1024, 0x12345678, 1));
    OK(cuCtxSynchronize());
    int descriptor, status;
    OK(cuMemExportToShareableHandle(&descriptor, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
    send_descriptor(sockets[0], descriptor);
    close(descriptor);
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
    uint32_t value;
    OK(cuMemcpyDtoH_v2(&value, address + 1024, 4));
    CHECK_EQUAL(value, 0x55);
    CHECK_EQUAL(before - free_bytes(), BLOCK);
    OK(cuMemRelease(handle));
    CHECK_EQUAL(before - free_bytes(), BLOCK); /* the mapping holds it */
    OK(cuMemUnmap(address, BLOCK));
    CHECK_EQUAL(free_bytes(), before);
    OK(cuMemAddressFree(address, BLOCK));
}

CASE(linear_memory_of_an_ipc_handle_is_the_same_memory_in_another_process) {
    size_t before = free_bytes();
    CUdeviceptr address;
    OK(cuMemAlloc_v2(&address, 3 * MIB));
    OK(cuMemsetD32_v2(address, 40, 3 * MIB / 4));
    CUipcMemHandle handle, again;
    OK(cuIpcGetMemHandle(&handle, address));
    OK(cuIpcGetMemHandle(&again, address));
    CHECK(!memcmp(&handle, &again, sizeof handle));
    CHECK_EQUAL(before - free_bytes(), 4 * MIB);
    CHECK_EQUAL(send(opener_sockets[0], &handle, sizeof handle, 0), sizeof handle);
    int status;
    CHECK_EQUAL(waitpid(opener, &status, 0), opener);
    CHECK_EQUAL(status, 0);
    uint32_t values[2];
    OK(cuMemcpyDtoH_v2(values, address, 8));
    CHECK_EQUAL(values[0], 41);
    CHECK_EQUAL(values[1], 40);
    OK(cuMemFree_v2(address));
    CHECK_EQUAL(free_bytes(), before);
    OK(cuMemAlloc_v2(&address, 3 * MIB));
    OK(cuMemcpyDtoH_v2(values, address, 8));
    CHECK_EQUAL(values[0], 0);
    OK(cuMemFree_v2(address));
}

CASE(a_handle_can_be_had_back_from_its_mapping) {
    CUmemGenericAllocationHandle handle, again;
    OK(cuMemCreate(&handle, 2 * BLOCK, &exportable, 0));
    CUdeviceptr address = map(handle, 2 * BLOCK);
    OK(cuMemRelease(handle));
    OK(cuMemRetainAllocationHandle(&again, (void *)(address + BLOCK)));
    CHECK_EQUAL(again, handle);
    CUmemAllocationProp properties;
    OK(cuMemGetAllocationPropertiesFromHandle(&properties, again));
    CHECK_EQUAL(properties.location.type, CU_MEM_LOCATION_TYPE_DEVICE);
    CHECK_EQUAL(cuMemAddressFree(address, 2 * BLOCK), CUDA_ERROR_INVALID_VALUE);
    OK(cuMemUnmap(address, 2 * BLOCK));
    OK(cuMemRelease(again));
    CHECK_EQUAL(cuMemRelease(again), CUDA_ERROR_INVALID_VALUE);
    OK(cuMemAddressFree(address, 2 * BLOCK));
}

CASE(bytes_follow_the_memory_and_not_the_address) {
    CUmemGenericAllocationHandle handle;
    uint32_t value;
    OK(cuMemCreate(&handle, BLOCK, &exportable, 0));
    CUdeviceptr one = map(handle, BLOCK), two = map(handle, BLOCK);
    OK(cuMemsetD32_v2(one, 77, 1));
    OK(cuMemcpyDtoH_v2(&value, two, 4));
    CHECK_EQUAL(value, 77);
    OK(cuMemUnmap(one, BLOCK));
    CHECK_EQUAL(cuMemsetD32_v2(one, 1, 1), CUDA_ERROR_INVALID_VALUE);
    OK(cuMemcpyDtoH_v2(&value, two, 4));
    CHECK_EQUAL(value, 77);
    OK(cuMemUnmap(two, BLOCK));
    OK(cuMemRelease(handle));
    OK(cuMemAddressFree(one, BLOCK));
    OK(cuMemAddressFree(two, BLOCK));
}

CASE(host_memory_behind_a_device_address_takes_none_of_the_card) {
    size_t before = free_bytes();
    CUmemAllocationProp host = exportable;
    host.location = (CUmemLocation){.type = CU_MEM_LOCATION_TYPE_HOST_NUMA, .id = 0};
    CUmemGenericAllocationHandle handle;
    OK(cuMemCreate(&handle, BLOCK, &host, 0));
    CUdeviceptr address = map(handle, BLOCK), device;
    OK(cuMemAlloc_v2(&device, 4));
    OK(cuMemsetD32_v2(address, 31, 1));
    OK(cuMemcpyDtoD_v2(device, address, 4));
    OK(cuCtxSynchronize());
    CHECK_EQUAL(*(uint32_t *)address, 31);
    OK(cuMemFree_v2(device));
    CHECK_EQUAL(free_bytes(), before);
    OK(cuMemUnmap(address, BLOCK));
    OK(cuMemRelease(handle));
    OK(cuMemAddressFree(address, BLOCK));
}

int main(int argc, char **argv) {
    node_new();
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM, 0, opener_sockets), 0);
    child = fork();
    if (child == 0)
        _exit(importer(sockets[1]));
    opener = fork();
    if (opener == 0)
        _exit(ipc_opener(opener_sockets[1]));
    return check_main(argc, argv);
}
