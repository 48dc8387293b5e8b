# One image for every node of ray_cluster.yaml. The Ray version must be the one in constraints.txt.
ARG RAY_VERSION=2.60.0
FROM rayproject/ray:${RAY_VERSION}-py311-gpu

WORKDIR /home/ray/qasir
COPY --chown=ray:users pyproject.toml constraints.txt README.md LICENSE ./
COPY --chown=ray:users qasir ./qasir
COPY --chown=ray:users pipelines ./pipelines
COPY --chown=ray:users jobs ./jobs
RUN pip install --no-cache-dir -c constraints.txt ".[cluster]"
# The wheel holds the library alone: jobs and pipelines are found here, by entrypoints and by Ray's workers.
ENV PYTHONPATH=/home/ray/qasir
