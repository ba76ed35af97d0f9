"""A plain service around transformers' question-answering pipeline, as one writes it in a few lines with Starlette.

python benchmarks/reference_service.py FOLDER THREADS     prints its URL when it listens
"""

import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

NEEDED = "5.2.0"


def main() -> None:
    import asyncio

    import torch
    import transformers
    import uvicorn
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    if transformers.__version__ != NEEDED:
        raise SystemExit(f"transformers {transformers.__version__}, needed is {NEEDED}")
    folder, threads = sys.argv[1:]
    pipe = transformers.pipeline("question-answering", folder, dtype=torch.float32)
    pool = ThreadPoolExecutor(int(threads))

    async def answer(request):
        body = await request.json()
        call = partial(pipe, **body["inputs"], **body.get("parameters", {}))
        return JSONResponse(await asyncio.get_running_loop().run_in_executor(pool, call))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        app = Starlette(routes=[Route("/", answer, methods=["POST"])])
        uvicorn.Server(uvicorn.Config(app, log_level="critical")).run([listener])


if __name__ == "__main__":
    main()
