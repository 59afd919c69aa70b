"""One folder, or one archive, with everything that a machine without a network needs to run, check and judge a compiled model.

    bundled_run.py      the finished run as the documents see it
    documents/          what is written for the bundle, one file a document, found by its file
    runtime_machine.py  the machine and the runtime that the artifact was verified on
    assemble.py         the folder: files of the run, the runner, the documents, manifest.json
    manifest.py         manifest.json, canonical JSON with the hash of every file
    signature.py        manifest.dsse.json, its signature
    archive.py          .tar.gz, the same bytes each time
    extraction.py       an archive from outside becomes a folder, or nothing
    formats/            what the folder is packed as, one file a format, found by its file

Nothing here knows a run's folder: `run/bundle.py` examines the run, and passes its parts.
"""
