// llama.cpp's RPC backend as a plug-in: a device that lends memory and time of another process, and calls itself a GPU.
//
// Built with ggml-rpc.cpp and transport.cpp of the same release. GGML_BACKEND_PATH names it to whoever uses the device,
// and LENT_GPU the lender's address; `lend` is the lender's side.

#include <cstdio>
#include <cstdlib>

#include "ggml-backend-impl.h"
#include "ggml-rpc.h"

namespace {

size_t lent = 0, held = 0; // bytes: all, and those of buffers
const char * taken_path = nullptr;

// The alloc_buffer and free_buffer of the device's own.
decltype(ggml_backend_buffer_type_i::alloc_buffer) alloc = nullptr;
decltype(ggml_backend_buffer_i::free_buffer) release = nullptr;

void get_memory(ggml_backend_dev_t, size_t * free, size_t * total) {
    *free = held < lent ? lent - held : 0;
    *total = lent;
}

// Return the bytes that others have taken without get_memory's knowledge: the number in the file.
size_t taken() {
    size_t bytes = 0;
    if (FILE * file = fopen(taken_path, "r")) {
        if (fscanf(file, "%zu", &bytes) != 1) { bytes = 0; }
        fclose(file);
    }
    return bytes;
}

void free_buffer(ggml_backend_buffer_t buffer) {
    held -= buffer->size;
    release(buffer);
}

ggml_backend_buffer_t alloc_buffer(ggml_backend_buffer_type_t type, size_t size) {
    if (held + taken() + size > lent) { return nullptr; }
    ggml_backend_buffer_t buffer = alloc(type, size);
    if (buffer) {
        held += buffer->size;
        release = buffer->iface.free_buffer;
        buffer->iface.free_buffer = free_buffer;
    }
    return buffer;
}

} // namespace

extern "C" {

// What ggml_backend_load looks for in a plug-in.
__attribute__((visibility("default"))) ggml_backend_reg_t ggml_backend_init() {
    const char * address = getenv("LENT_GPU");
    return address ? ggml_backend_rpc_add_server(address) : nullptr;
}

// Serve a device of this process at an address such as 127.0.0.1:50052, one client at a time, until the process ends.
// Its buffers take `bytes` at most, less what the file at `taken` says.
__attribute__((visibility("default"))) void lend(ggml_backend_dev_t device, const char * address, size_t bytes,
                                                 const char * taken) {
    lent = bytes;
    taken_path = taken;
    device->iface.get_memory = get_memory; // the processor's own says that all of the machine's memory is free
    ggml_backend_buffer_type_t type = ggml_backend_dev_buffer_type(device);
    alloc = type->iface.alloc_buffer;
    type->iface.alloc_buffer = alloc_buffer;
    ggml_backend_rpc_start_server(address, nullptr, 1, 1, &device);
}
}
