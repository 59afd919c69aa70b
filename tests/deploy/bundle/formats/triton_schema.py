"""Triton's message `ModelConfig`, as far as config.pbtxt uses it: names, numbers and types of the fields of its public definition.

protobuf's own parser reads config.pbtxt against it, and refuses a field that is unknown, of another type, or given twice.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_TYPES = {"string": 9, "bool": 8, "int32": 5, "int64": 3, "uint32": 13, "uint64": 4}
_ENUMS = {
    "DataType": ("INVALID", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32"),
    "Kind": ("AUTO", "GPU", "CPU", "MODEL"),
}
_PREFIX = {"DataType": "TYPE_", "Kind": "KIND_"}
# message -> its fields: (name, number, type); "*" before a type repeats it, "key->type" is a map
_MESSAGES: dict[str, list[tuple[str, int, str]]] = {
    "ModelInput": [("name", 1, "string"), ("data_type", 2, "DataType"), ("dims", 4, "*int64")],
    "ModelOutput": [("name", 1, "string"), ("data_type", 2, "DataType"), ("dims", 3, "*int64"), ("label_filename", 4, "string")],
    "ModelInstanceGroup": [("name", 1, "string"), ("count", 2, "int32"), ("gpus", 3, "*int32"), ("kind", 4, "Kind")],
    "ModelDynamicBatching": [("preferred_batch_size", 1, "*int32"), ("max_queue_delay_microseconds", 2, "uint64")],
    "ModelParameter": [("string_value", 1, "string")],
    "WarmupInput": [("data_type", 1, "DataType"), ("dims", 2, "*int64"), ("zero_data", 3, "bool")],
    "ModelWarmup": [("name", 1, "string"), ("batch_size", 2, "uint32"), ("inputs", 3, "string->WarmupInput"), ("count", 4, "uint32")],
    "ModelConfig": [
        ("name", 1, "string"),
        ("platform", 2, "string"),
        ("max_batch_size", 4, "int32"),
        ("input", 5, "*ModelInput"),
        ("output", 6, "*ModelOutput"),
        ("instance_group", 7, "*ModelInstanceGroup"),
        ("default_model_filename", 8, "string"),
        ("dynamic_batching", 11, "ModelDynamicBatching"),
        ("parameters", 14, "string->ModelParameter"),
        ("model_warmup", 16, "*ModelWarmup"),
        ("backend", 17, "string"),
    ],
}


def _field(message: Any, name: str, number: int, kind: str) -> None:
    field = message.field.add(name=name, number=number, label=3 if kind.startswith("*") or "->" in kind else 1)
    kind = kind.removeprefix("*")
    if "->" in kind:
        # a map is a repeated message with a key and a value
        key, _, value = kind.partition("->")
        entry = message.nested_type.add(name="".join(part.title() for part in name.split("_")) + "Entry")
        entry.options.map_entry = True
        _field(entry, "key", 1, key)
        _field(entry, "value", 2, value)
        field.type, field.type_name = 11, f".inference.{message.name}.{entry.name}"
    elif kind in _TYPES:
        field.type = _TYPES[kind]
    else:
        field.type, field.type_name = 14 if kind in _ENUMS else 11, f".inference.{kind}"


def model_config() -> Any:
    """An empty message `ModelConfig`."""
    file = descriptor_pb2.FileDescriptorProto(name="model_config.proto", package="inference", syntax="proto3")
    for name, values in _ENUMS.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=_PREFIX[name] + value, number=number)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in fields:
            _field(message, *field)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))()
