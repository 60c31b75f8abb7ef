// llama.cpp's RPC backend as a plug-in: a device that lends memory and time of another process, and calls itself a GPU.
//
// Built with ggml-rpc.cpp and transport.cpp of the same release. GGML_BACKEND_PATH names it to whoever uses the device,
// and LENT_GPU the lender's address; `lend` is the lender's side.

#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "ggml-backend-impl.h"
#include "ggml-rpc.h"

namespace {

size_t lent = 0;
size_t most = 0; // bytes of address space that the lender may use

size_t used() {
    size_t pages = 0;
    if (FILE * file = fopen("/proc/self/statm", "r")) {
        if (fscanf(file, "%zu", &pages) != 1) { pages = 0; }
        fclose(file);
    }
    return pages * (size_t) sysconf(_SC_PAGESIZE);
}

void get_memory(ggml_backend_dev_t, size_t * free, size_t * total) {
    size_t now = used();
    *free = now < most ? most - now : 0;
    *total = lent;
}

} // namespace

extern "C" {

// What ggml_backend_load looks for in a plug-in.
__attribute__((visibility("default"))) ggml_backend_reg_t ggml_backend_init() {
    const char * address = getenv("LENT_GPU");
    return address ? ggml_backend_rpc_add_server(address) : nullptr;
}

// Serve a device of this process at an address such as 127.0.0.1:50052, one client at a time, until the process ends.
// Whatever needs more than `bytes` fails, as it does on a GPU whose memory is full.
__attribute__((visibility("default"))) void lend(ggml_backend_dev_t device, const char * address, size_t bytes) {
    lent = bytes;
    most = used() + bytes;
    rlimit limit = {most, most};
    setrlimit(RLIMIT_AS, &limit);
    device->iface.get_memory = get_memory; // the processor's own says that all of the machine's memory is free
    ggml_backend_rpc_start_server(address, nullptr, 1, 1, &device);
}
}
