# One image for every node of ray_cluster.yaml and docs/kubernetes. The Ray version must be the one in constraints.txt.
# To pin the base by its digest too: --build-arg BASE=rayproject/ray:2.60.0-py311-gpu@sha256:...
ARG RAY_VERSION=2.60.0
ARG BASE=rayproject/ray:${RAY_VERSION}-py311-gpu
FROM ${BASE}

WORKDIR /home/ray/qasir
COPY --chown=1000:100 pyproject.toml constraints.txt README.md LICENSE ./
COPY --chown=1000:100 qasir ./qasir
COPY --chown=1000:100 pipelines ./pipelines
COPY --chown=1000:100 jobs ./jobs
USER 1000:100
RUN pip install --no-cache-dir -c constraints.txt ".[cluster]"
# The wheel holds the library alone: jobs and pipelines are found here, by entrypoints and by Ray's workers.
ENV PYTHONPATH=/home/ray/qasir
# Of a GPU's driver, the library that decodes video too.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility,video
# Nothing here is written to while it runs, Python's caches neither.
ENV PYTHONDONTWRITEBYTECODE=1
