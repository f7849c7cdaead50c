# The dashboard for others to visit, on a machine without a GPU; docs/deploy.md says how to run it, and as a Space.
FROM python:3.11-slim

# Spaces run a container as this user.
RUN useradd --create-home --uid 1000 visitor
WORKDIR /app

# PyTorch for CPUs alone, of the locked version; what PyPI has brings gigabytes for GPUs.
COPY requirements.txt requirements.lock ./
RUN pip install --no-cache-dir --no-deps --index-url https://download.pytorch.org/whl/cpu -c requirements.lock torch
RUN pip install --no-cache-dir -r requirements.txt -c requirements.lock

COPY pyproject.toml README.md LICENSE app.py ./
COPY .streamlit .streamlit
COPY assets assets
COPY detox_engine detox_engine
COPY ui ui
COPY pages pages
RUN pip install --no-cache-dir --no-deps -e .

# From here on nothing but the visitor's own folder can be written.
USER visitor
ENV HOME=/home/visitor \
    XDG_CACHE_HOME=/home/visitor/.cache
# Fits the bundled model once, so that the dashboard opens with it.
RUN python -m ui.session.kept_study && python -m pages.overview

EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://localhost:8501/_stcore/health')"]
# It listens to others, so it keeps no results of visitors and opens no folders of the server: ui/session/places.py.
CMD ["streamlit", "run", "app.py", "--server.address=0.0.0.0", "--server.port=8501", "--server.headless=true"]
