"""llama.cpp by the C functions of the library that xllamacpp carries: tokens, logits, perplexity, generation.

Structures that C passes by value are taken as opaque bytes, larger than they are: by the x86-64 convention both sides then
agree on where they lie, and only their first fields are looked at. Ran with xllamacpp 2026.10.11549.
"""
import ctypes
import os
import pathlib

import numpy as np
import xllamacpp

lib = ctypes.CDLL(str(next(pathlib.Path(xllamacpp.__file__).parent.glob("*.so"))))


class Opaque(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_ubyte * 1024)]


class ContextParams(ctypes.Structure):
    _fields_ = [("n_ctx", ctypes.c_uint32), ("n_batch", ctypes.c_uint32), ("n_ubatch", ctypes.c_uint32),
                ("rest", ctypes.c_ubyte * 1012)]


class Batch(ctypes.Structure):
    _fields_ = [("n_tokens", ctypes.c_int32), ("token", ctypes.POINTER(ctypes.c_int32)), ("embd", ctypes.c_void_p),
                ("pos", ctypes.POINTER(ctypes.c_int32)), ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
                ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))), ("logits", ctypes.POINTER(ctypes.c_int8))]


LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
messages = []


@LOG
def _log(level, text, _):
    if level >= 3:
        messages.append(text.decode(errors="replace"))


for name, result, arguments in [
    ("llama_model_default_params", Opaque, []),
    ("llama_context_default_params", ContextParams, []),
    ("llama_model_load_from_file", ctypes.c_void_p, [ctypes.c_char_p, Opaque]),
    ("llama_model_get_vocab", ctypes.c_void_p, [ctypes.c_void_p]),
    ("llama_model_free", None, [ctypes.c_void_p]),
    ("llama_init_from_model", ctypes.c_void_p, [ctypes.c_void_p, ContextParams]),
    ("llama_free", None, [ctypes.c_void_p]),
    ("llama_set_n_threads", None, [ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32]),
    ("llama_get_memory", ctypes.c_void_p, [ctypes.c_void_p]),
    ("llama_memory_clear", None, [ctypes.c_void_p, ctypes.c_bool]),
    ("llama_tokenize", ctypes.c_int32, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32,
                                        ctypes.c_bool, ctypes.c_bool]),
    ("llama_token_to_piece", ctypes.c_int32, [ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32,
                                              ctypes.c_int32, ctypes.c_bool]),
    ("llama_vocab_n_tokens", ctypes.c_int32, [ctypes.c_void_p]),
    ("llama_vocab_is_eog", ctypes.c_bool, [ctypes.c_void_p, ctypes.c_int32]),
    ("llama_vocab_bos", ctypes.c_int32, [ctypes.c_void_p]),
    ("llama_vocab_eos", ctypes.c_int32, [ctypes.c_void_p]),
    ("llama_vocab_pad", ctypes.c_int32, [ctypes.c_void_p]),
    ("llama_batch_init", Batch, [ctypes.c_int32, ctypes.c_int32, ctypes.c_int32]),
    ("llama_batch_free", None, [Batch]),
    ("llama_decode", ctypes.c_int32, [ctypes.c_void_p, Batch]),
    ("llama_get_logits_ith", ctypes.POINTER(ctypes.c_float), [ctypes.c_void_p, ctypes.c_int32]),
    ("llama_log_set", None, [LOG, ctypes.c_void_p]),
    ("llama_backend_init", None, []),
]:
    function = getattr(lib, name)
    function.restype, function.argtypes = result, arguments
lib.llama_log_set(_log, None)
lib.llama_backend_init()


class Model:
    """A GGUF in llama.cpp."""

    def __init__(self, path, context=2048):
        messages.clear()
        self.model = lib.llama_model_load_from_file(str(path).encode(), lib.llama_model_default_params())
        if not self.model:
            raise RuntimeError(f"llama.cpp does not load {path}: {''.join(messages)}")
        self.warnings = [m for m in messages if m.strip()]
        self.vocab = lib.llama_model_get_vocab(self.model)
        self.size = lib.llama_vocab_n_tokens(self.vocab)
        params = lib.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = context, context, context
        self.context = lib.llama_init_from_model(self.model, params)
        if not self.context:
            raise RuntimeError(f"no context: {''.join(messages)}")
        # Threads wait for each other by spinning: more than there are processors cost much.
        threads = len(os.sched_getaffinity(0))
        lib.llama_set_n_threads(self.context, threads, threads)
        self.batch = lib.llama_batch_init(context, 0, 1)

    def tokenize(self, text, special=True, add=False):
        data = text.encode()
        out = np.zeros(len(data) + 16, np.int32)
        count = lib.llama_tokenize(self.vocab, data, len(data), out.ctypes.data, len(out), add, special)
        assert count >= 0
        return out[:count].tolist()

    def piece(self, token):
        out = ctypes.create_string_buffer(512)
        count = lib.llama_token_to_piece(self.vocab, token, out, 512, 0, True)
        return out.raw[:count]

    def is_end(self, token):
        return lib.llama_vocab_is_eog(self.vocab, token)

    def forget(self):
        lib.llama_memory_clear(lib.llama_get_memory(self.context), True)

    def run(self, tokens, start=0, every=True):
        """Logits after each token, or after the last."""
        for i, token in enumerate(tokens):
            self.batch.token[i], self.batch.pos[i], self.batch.n_seq_id[i] = token, start + i, 1
            self.batch.seq_id[i][0] = 0
            self.batch.logits[i] = 1 if every or i == len(tokens) - 1 else 0
        self.batch.n_tokens = len(tokens)
        status = lib.llama_decode(self.context, self.batch)
        assert status == 0, f"llama_decode: {status}"
        rows = range(len(tokens)) if every else [len(tokens) - 1]
        return np.stack([np.ctypeslib.as_array(lib.llama_get_logits_ith(self.context, i), (self.size,)).copy() for i in rows])

    def log_probabilities(self, tokens, window):
        """Of each whole window: log-probabilities after each of its tokens but the last, and the tokens that follow."""
        for start in range(0, len(tokens) - window + 1, window):
            part = tokens[start:start + window]
            self.forget()
            logits = self.run(part)[:-1]
            logits -= logits.max(axis=1, keepdims=True)
            logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True, dtype=np.float64)).astype(np.float32)
            yield logits, part[1:]

    def nll(self, tokens, window):
        """Mean negative log likelihood of all tokens but the first of each whole window, as `swiftlet eval` has it."""
        total, count = 0.0, 0
        for logs, following in self.log_probabilities(tokens, window):
            total -= logs[np.arange(len(following)), following].sum(dtype=np.float64)
            count += len(following)
        return total / count, count

    def divergence(self, reference, tokens, window):
        """Mean negative log likelihood, and mean KL(reference ‖ this), of `reference`, a list of log-probabilities."""
        total, divergence, count = 0.0, 0.0, 0
        for expected, (logs, following) in zip(reference, self.log_probabilities(tokens, window)):
            total -= logs[np.arange(len(following)), following].sum(dtype=np.float64)
            divergence += (np.exp(expected) * (expected - logs)).sum(dtype=np.float64)
            count += len(following)
        return total / count, divergence / count

    def generate(self, tokens, limit):
        """The likeliest tokens, up to an end or the limit, and whether the end came."""
        self.forget()
        logits, answer, position = self.run(tokens, every=False), [], len(tokens)
        while len(answer) < limit:
            token = int(logits[-1].argmax())
            if self.is_end(token):
                return answer, True
            answer.append(token)
            logits = self.run([token], position, every=False)
            position += 1
        return answer, False

    def close(self):
        lib.llama_batch_free(self.batch)
        lib.llama_free(self.context)
        lib.llama_model_free(self.model)
