# qrft for an NVIDIA GPU, llama.cpp built for it. Build and run:
#   docker build -t qrft .
#   docker run --gpus all -v "$PWD:/data" qrft run mine.yaml         # models and GGUF files are kept in ./cache
# CUDA_ARCHITECTURES: of your card alone to build faster, such as 89 for an RTX 40.
ARG CUDA=12.8.1
FROM nvidia/cuda:${CUDA}-devel-ubuntu24.04 AS build
ARG CUDA_ARCHITECTURES="80;86;89;90;120"
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-dev python3-venv gcc g++ cmake ninja-build git \
  && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /venv
ENV PATH=/venv/bin:$PATH
WORKDIR /src
COPY constraints.txt .
# The driver's own library is not there while an image is built, only its stub.
RUN ln -s /usr/local/cuda/lib64/stubs/libcuda.so /usr/local/cuda/lib64/stubs/libcuda.so.1 \
  && LIBRARY_PATH=/usr/local/cuda/lib64/stubs \
  CMAKE_ARGS="-DGGML_CUDA=on -DGGML_NATIVE=off -DCMAKE_CUDA_ARCHITECTURES=${CUDA_ARCHITECTURES} -DCMAKE_EXE_LINKER_FLAGS=-Wl,--allow-shlib-undefined" \
  pip install --no-cache-dir -c constraints.txt llama-cpp-python
COPY . .
RUN pip install --no-cache-dir -c constraints.txt '.[latex]'

FROM nvidia/cuda:${CUDA}-runtime-ubuntu24.04
RUN apt-get update && apt-get install -y --no-install-recommends python3 libgomp1 && rm -rf /var/lib/apt/lists/*
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH
ENV XDG_CACHE_HOME=/data/cache
WORKDIR /data
ENTRYPOINT ["qrft"]
CMD ["doctor"]
