import Foundation
import JSONValues
import TestSupport
import Testing

/// What is wrong with a model or a disk is one line, and no half of a file stays under a final name.
@Suite(.enabled(if: swiftletPath != nil, "the program was not built beside the tests"))
struct BadInputTests {
  private static let phi3: JSONObject = [
    "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "tie_word_embeddings": false,
  ]

  /// A model to spoil.
  private struct Model {
    let folder: TemporaryFolder
    var tiny: TinyModel
    var path: String { folder.path + "/model" }

    init(_ tiny: TinyModel = TinyModel(changing: BadInputTests.phi3)) throws {
      folder = try TemporaryFolder()
      self.tiny = tiny
      try write()
      try TinyAdapter(tiny.linearLayers, rank: 2, alpha: 4).write(to: folder, "adapter")
    }

    func write(change: (String, inout [Float]) -> Void = { _, _ in }) throws {
      try tiny.write(to: folder, in: "model", change: change)
    }

    func remove(_ name: String) throws { try FileManager.default.removeItem(atPath: "\(path)/\(name)") }

    /// Two shards and an index: the model's own file and one of a single tensor.
    func shard(_ name: String = "model.norm.weight") throws {
      try FileManager.default.moveItem(
        atPath: "\(path)/model.safetensors", toPath: "\(path)/model-00001-of-00002.safetensors")
      let shape = try #require(tiny.tensors.first { $0.name == name }?.shape)
      let count = 4 * shape.reduce(1, *)
      let header = """
        {"\(name)": {"dtype": "F32", "shape": \(shape), "data_offsets": [0, \(count)]}}
        """
      let bytes = GGUFBuilder.bytes(UInt64(header.utf8.count)) + Array(header.utf8)
      _ = try folder.write(
        "model/model-00002-of-00002.safetensors", bytes + [UInt8](repeating: 0, count: count))
      try index { _ in }
    }

    func index(_ change: (inout JSONObject) -> Void) throws {
      var map = JSONObject(tiny.tensors.map { ($0.name, .string("model-00001-of-00002.safetensors")) })
      change(&map)
      let index: JSONValue = ["metadata": ["total_size": 1], "weight_map": .object(map)]
      _ = try folder.write("model/model.safetensors.index.json", index.serialized())
    }
  }

  /// Every command that reads weights says the same in one line, and leaves nothing.
  private func expect(
    _ text: String, _ model: Model, status: Int32 = 2, _ location: SourceLocation = #_sourceLocation
  ) throws {
    let output = model.folder.path + "/out"
    let adapter = model.folder.path + "/adapter"
    var commands = [
      ["convert", model.path, "--to", "llama", "--output", output],
      ["export", model.path, "--adapter", adapter, "--format", "merged", "--output", output],
    ]
    // A GGUF needs a tokenizer, which these models lack: it comes this far with what shows before.
    if status == 2 {
      commands.append(["export", model.path, "--adapter", adapter, "--format", "gguf", "--output", output + ".gguf"])
    }
    for words in commands {
      let result = try swiftlet(words)
      #expect(result.status == status, "\(words[0]): \(result.errors)", sourceLocation: location)
      #expect(result.output.isEmpty, sourceLocation: location)
      #expect(result.message?.contains(text) == true, "\(words[0]): \(result.errors)", sourceLocation: location)
      let names = try FileManager.default.contentsOfDirectory(atPath: model.folder.path)
      #expect(names.sorted() == ["adapter", "model"], sourceLocation: location)
    }
  }

  @Test func shardsAndTheIndex() throws {
    let shards = try Model()
    try shards.shard()
    try shards.index { $0["model.norm.weight"] = "model-00002-of-00002.safetensors" }
    try expect("tensor 'model.norm.weight' is in two files, 'model-00001-of-00002.safetensors' and", shards)
    try shards.index { $0["model.extra.weight"] = "model-00002-of-00002.safetensors" }
    try expect("tensor 'model.extra.weight' should be in 'model-00002-of-00002.safetensors', but is not", shards)
    try shards.index { $0["model.norm.weight"] = "model-00003-of-00002.safetensors" }
    try expect("the file 'model-00003-of-00002.safetensors' is missing; fetch the model again", shards)
    try shards.index { $0["model.norm.weight"] = nil }
    try expect("tensor 'model.norm.weight' is missing", shards)
    // A single file beside an index that does not name it: which of them is the model?
    let both = try Model()
    try both.index { map in
      for (name, _) in map { map[name] = "other.safetensors" }
    }
    let file = both.path + "/model.safetensors"
    try FileManager.default.copyItem(atPath: file, toPath: both.path + "/other.safetensors")
    try expect("there are both model.safetensors and an index that does not name it", both)
    let none = try Model()
    try none.remove("model.safetensors")
    try expect("there is neither model.safetensors nor model.safetensors.index.json here", none)
    let cut = try Model()
    let bytes = try #require(TemporaryFolder.bytes(of: cut.path + "/model.safetensors"))
    _ = try cut.folder.write("model/model.safetensors", Array(bytes.dropLast(5)))
    try expect("it is truncated, fetch it again", cut)
  }

  @Test func shapesAndTypes() throws {
    var wider = try Model()
    wider.tiny.config["vocab_size"] = 25
    _ = try wider.folder.write("model/config.json", JSONValue.object(wider.tiny.config).serialized())
    try expect("tensor 'model.embed_tokens.weight' has the shape [24, 16], [25, 16] was expected", wider)
    let integers = try Model()
    let path = integers.path + "/model.safetensors"
    let bytes = try #require(TemporaryFolder.bytes(of: path))
    // The name of the type is as long, its elements too.
    let header = Array("\"model.norm.weight\": {\"dtype\": \"F32\"".utf8)
    let end = try #require(bytes.firstRange(of: header)).upperBound
    var changed = bytes
    changed.replaceSubrange(end - 5..<end, with: Array("\"I32\"".utf8))
    _ = try integers.folder.write("model/model.safetensors", changed)
    try expect("tensor 'model.norm.weight' is stored as I32, which no weight of this model can be", integers)
    var deeper = try Model()
    deeper.tiny.config["num_hidden_layers"] = 4
    _ = try deeper.folder.write("model/config.json", JSONValue.object(deeper.tiny.config).serialized())
    try expect("is missing", deeper)
  }

  @Test func valuesThatAreNoNumbers() throws {
    for (tensor, value) in [
      ("model.layers.1.mlp.gate_up_proj.weight", Float.nan), ("model.layers.0.self_attn.o_proj.weight", .infinity),
      ("model.norm.weight", -.infinity), ("lm_head.weight", .nan),
    ] {
      let model = try Model()
      try model.write { if $0 == tensor { $1[$1.count - 1] = value } }
      // Known only once the weights are read.
      try expect("holds values that are no finite numbers; the file is damaged, fetch it again", model, status: 1)
    }
  }

  @Test(
    arguments: [
      (["hidden_act": "gelu"], "hidden_act is 'gelu'"), (["attention_dropout": 0.1], "attention_dropout is 0.1"),
      (["architectures": ["GemmaForCausalLM"]], "the architecture 'GemmaForCausalLM' is not supported"),
      (["num_local_experts": 8], "num_local_experts is 8"), (["qk_layernorm": true], "qk_layernorm is true"),
      (["quantization_config": ["quant_method": "awq"]], "these weights are already quantized ('awq')"),
      (["rope_scaling": ["type": "ntk", "factor": 2.0]], "ntk"), (["num_key_value_heads": 3], "cannot be shared by 3"),
    ] as [(JSONObject, String)])
  func fieldsThatAreNotHonoured(changes: JSONObject, message: String) throws {
    try expect(message, Model(TinyModel(changing: Self.phi3.merging(changes))))
  }

  @Test func placesThatCannotBeWritten() throws {
    let model = try Model()
    let adapter = model.folder.path + "/adapter"
    let file = try model.folder.write("file", "x")
    for output in ["/proc/swiftlet-out", file, file + "/out", model.path, model.folder.path + "/none/out"] {
      for words in [
        ["convert", model.path, "--to", "llama"], ["export", model.path, "--adapter", adapter, "--format", "merged"],
        ["export", model.path, "--adapter", adapter, "--format", "adapter"],
      ] {
        // A folder that is in use takes an adapter: a run's does.
        if words.last == "adapter", output == model.path { continue }
        let result = try swiftlet(words + ["--output", output])
        #expect(result.status == 1 || result.status == 2)
        #expect(result.message?.contains(output) == true, "\(words) \(output): \(result.errors)")
        #expect(result.message?.contains("Error") == false)
      }
    }
    #expect(TemporaryFolder.text(of: file) == "x")
  }

  /// A limit on the size of files stands for a disk that fills: the error of the system is another, its way the same.
  @Test(arguments: [
    ["convert", "MODEL", "--to", "llama"], ["export", "MODEL", "--adapter", "ADAPTER", "--format", "merged"],
    ["export", "MODEL", "--adapter", "ADAPTER", "--format", "adapter"],
  ])
  func aDiskThatFillsLeavesNothing(words: [String]) throws {
    let model = try Model()
    let paths = ["MODEL": model.path, "ADAPTER": model.folder.path + "/adapter"]
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    // The limit counts blocks of 512 or 1024 bytes.
    process.arguments =
      ["-c", "trap '' XFSZ; ulimit -f 2; exec \"$0\" \"$@\"", try #require(swiftletPath)]
      + words.map { paths[$0] ?? $0 } + ["--output", model.folder.path + "/out"]
    let errors = Pipe()
    process.standardError = errors
    try process.run()
    let text = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(process.terminationStatus == 1)
    #expect(text.contains("cannot write: the file would be larger") && text.filter(\.isNewline).count == 1, "\(text)")
    let left = try FileManager.default.subpathsOfDirectory(atPath: model.folder.path).filter {
      $0.hasPrefix("out/") || $0.contains("incomplete")
    }
    #expect(left.isEmpty)
  }
}

extension JSONObject {
  /// This object with other values of some keys.
  fileprivate func merging(_ changes: JSONObject) -> JSONObject {
    var object = self
    for (key, value) in changes { object[key] = value }
    return object
  }
}
