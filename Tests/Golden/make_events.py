#!/usr/bin/env python3
"""Writes events.tfevents: the events that EventFileTests writes too, by TensorBoard's own messages and record writer.

Usage: make_events.py [FOLDER]. Made with tensorboard 2.21.0.
"""

import pathlib
import sys

from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)


def scalars(values, time, step):
    summary = summary_pb2.Summary()
    for name, value in values:
        summary.value.add(tag=name, simple_value=value)
    return event_pb2.Event(wall_time=time, step=step, summary=summary)


def text(name, words, time, step):
    tensor = tensor_pb2.TensorProto(dtype=7, string_val=[words.encode()])
    tensor.tensor_shape.SetInParent()
    summary = summary_pb2.Summary()
    value = summary.value.add(tag=name, tensor=tensor)
    value.metadata.plugin_data.plugin_name = "text"
    return event_pb2.Event(wall_time=time, step=step, summary=summary)


events = [
    event_pb2.Event(wall_time=1700000000.25, file_version="brain.Event:2"),
    event_pb2.Event(
        wall_time=1700000000.25, step=3, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    ),
    scalars([("train/loss", 2.7182818), ("train/learning_rate", 2e-4)], 1700000001.5, 3),
    scalars([("eval/loss", float("nan"))], 1700000002.5, 300),
    text("answers/1", "Grüße 🙂\n\n" + "long " * 60, 1700000003.0, 123456789),
]
with open(folder / "events.tfevents", "wb") as file:
    writer = RecordWriter(file)
    for event in events:
        writer.write(event.SerializeToString())
    writer.flush()
