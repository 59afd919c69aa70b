"""`python -m bundle serve`: the model over HTTP, by the Open Inference Protocol (KServe v2).

    errors.py         what a client is told
    protocol.py       bytes of a request -> tensor, outputs -> bytes of an answer
    served_models.py  the two models that are served: the network's input, and stored images
    workers.py        a bounded queue in front of the threads that run the model
    metrics.py        counters at /metrics
    application.py    addresses, limits and errors: an ASGI application
    process.py        the process: socket, signals, graceful stop

The protocol and the queue need numpy only. The application needs Starlette, the process Uvicorn, the metrics prometheus-client.
"""
