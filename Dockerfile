# An image for CPUs that does what `make run` does:
#   docker build -t hftl .
#   docker run --rm -v "$PWD/runs:/hftl/runs" hftl
# Any other command goes at the end: docker run --rm -v "$PWD:/data" hftl hftl doctor /data/tickets.csv
FROM python:3.11-slim
WORKDIR /hftl
COPY constraints.txt ./
# PyPI's torch for Linux brings CUDA; this index has the build without it.
RUN pip install --no-cache-dir --no-deps --index-url https://download.pytorch.org/whl/cpu "$(grep '^torch==' constraints.txt)"
COPY . .
RUN pip install --no-cache-dir -c constraints.txt -e ".[offline,demo,export]"
CMD ["env", "HF_HUB_OFFLINE=1", "python", "-m", "recipes.tour"]
