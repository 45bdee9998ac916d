# `worldmodel serve` alone: no PyTorch, no DVC, no compiler. docs/serve.md shows how to run it.
FROM python:3.11-slim AS build
WORKDIR /source
COPY pyproject.toml constraints.txt params.yaml README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir --no-compile --prefix /installed -c constraints.txt '.[serve]'

FROM python:3.11-slim
COPY --from=build /installed /usr/local
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
EXPOSE 8000 8001
ENTRYPOINT ["worldmodel", "serve"]
CMD ["/bundle", "--host", "0.0.0.0"]
