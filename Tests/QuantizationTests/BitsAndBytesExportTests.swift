import CPUDevice
import JSONValues
import ModelFiles
import Models
import Tensors
import TestSupport
import Testing

@testable import Quantization

@Suite struct BitsAndBytesExportTests {
  /// Two layers of widths that blocks of 64 divide.
  static let wide: JSONObject = [
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "tie_word_embeddings": false,
  ]
  static let phi3: JSONObject = [
    "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "hidden_size": 64, "intermediate_size": 128,
    "num_hidden_layers": 2, "tie_word_embeddings": false,
  ]

  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  /// A tiny model, quantized; its checkpoint and the original one.
  func export(
    _ changes: JSONObject, keeping kept: Set<String> = []
  ) throws -> (original: Checkpoint, quantized: Checkpoint, result: BitsAndBytesExport.Result) {
    try TinyModel(changing: changes, seed: .random(in: 0...UInt64.max)).write(to: folder)
    let output = folder.path + "/out"
    var export = try BitsAndBytesExport(of: folder.path)
    export.keep(kept)
    let byteCount = export.byteCount
    var written = 0
    let result = try export.write(to: output) { written = $0 }
    #expect(written > 0 && written <= result.byteCount && result.byteCount == byteCount)
    return (try Checkpoint.open(path: folder.path), try Checkpoint.open(path: output), result)
  }

  /// What plain arithmetic in double makes of a matrix: for each value its nearest code, decoded, and the nearest for a
  /// value a rounding of fp32 beside it, since the quantizer divides in fp32 as bitsandbytes does: the two differ at ties.
  func expected(_ values: [Float]) -> [ClosedRange<Float>] {
    let absmax = stride(from: 0, to: values.count, by: 64).map { start in
      values[start..<min(start + 64, values.count)].map(abs).max() ?? 0
    }
    let decoded = DoubleQuantizedAbsmax(absmax).decoded
    func nearest(_ x: Double) -> Float {
      NF4.values.min { abs(Double($0) - x) < abs(Double($1) - x) } ?? 0
    }
    return values.indices.map { index in
      let x = Double(values[index]) / max(Double(absmax[index / 64]), 1e-38)
      let (low, high) = (nearest(x - 3e-7) * decoded[index / 64], nearest(x + 3e-7) * decoded[index / 64])
      return min(low, high)...max(low, high)
    }
  }

  @Test(arguments: [wide, phi3]) func whatIsWrittenDecodesToTheNearest(_ changes: JSONObject) throws {
    let (original, quantized, result) = try export(changes)
    #expect(result.kept == [] && result.quantizedCount == (changes["model_type"] == nil ? 14 : 8))
    #expect(quantized.configuration == original.configuration)
    for name in original.tensorNames {
      let (before, after) = (try original.tensor(name), try quantized.tensor(name))
      #expect(before.shape == after.shape)
      guard name.contains("_proj") else {
        #expect(try before.decoded() == after.decoded())
        continue
      }
      #expect(after.format == .nf4)
      // Fused matrices were quantized whole, but no block crosses the border of two parts; the mean of absmax does.
      if changes["model_type"] == nil {
        #expect(zip(expected(try before.decoded()), try after.decoded()).allSatisfy { $0.contains($1) })
      }
      for (value, decoded) in zip(try before.decoded(), try after.decoded()) { #expect(abs(value - decoded) < 0.08) }
    }
  }

  @Test func theConfigurationIsWhatTransformersReads() throws {
    let kept: Set = ["model.layers.1.self_attn.v_proj", "model.layers.0.mlp.down_proj"]
    let (_, quantized, result) = try export(Self.wide, keeping: kept)
    #expect(Set(result.kept) == kept)
    let config = try readJSON(quantized.path + "/config.json")
    let quantization = try #require(config["quantization_config"])
    #expect(quantization["quant_method"] == "bitsandbytes")
    #expect(quantization["bnb_4bit_quant_type"] == "nf4")
    #expect(quantization["bnb_4bit_use_double_quant"] == true)
    #expect(Set(quantization["llm_int8_skip_modules"]?.array?.compactMap(\.string) ?? []) == kept.union(["lm_head"]))
    for name in kept { #expect(try quantized.tensor(name + ".weight").format == .float32) }
    #expect(try quantized.tensor("model.layers.0.self_attn.v_proj.weight").format == .nf4)
  }

  @Test func fusedProjectionsStayTogether() throws {
    let (_, quantized, result) = try export(Self.phi3, keeping: ["model.layers.1.self_attn.v_proj"])
    #expect(result.kept == ["model.layers.1.self_attn.qkv_proj"])
    #expect(try quantized.tensor("model.layers.1.self_attn.q_proj.weight").format == .float32)
    #expect(try quantized.tensor("model.layers.0.self_attn.k_proj.weight").nf4?.firstElement == 64 * 64)
  }

  @Test func aGGUFBecomesAFolder() throws {
    let path = try folder.write("tiny.gguf", GGUFBuilder.tinyLlama().build())
    let export = try BitsAndBytesExport(of: path)
    try export.write(to: folder.path + "/out")
    let quantized = try Checkpoint.open(path: folder.path + "/out")
    let tensor = try quantized.tensor("model.layers.1.self_attn.q_proj.weight", shape: [8, 8])
    #expect(tensor.format == .nf4)
    let before = try Checkpoint.open(path: path).tensor("model.layers.1.self_attn.q_proj.weight").decoded()
    for (value, decoded) in zip(before, try tensor.decoded()) { #expect(abs(value - decoded) < 0.1) }
  }

  @Test func whatIsQuantizedAlreadyIsRefused() throws {
    let (_, quantized, _) = try export(Self.wide)
    #expect(throws: ModelFileError.self) { try BitsAndBytesExport(of: quantized.path) }
  }

  @Test func nothingStaysOfAnExportThatFails() throws {
    try TinyModel(changing: Self.wide).write(to: folder) { name, values in
      if name.hasSuffix("layers.1.mlp.up_proj.weight") { values[7] = .nan }
    }
    let export = try BitsAndBytesExport(of: folder.path)
    #expect(throws: ModelFileError.self) { try export.write(to: folder.path + "/out") }
    #expect(AtomicFolder.names(in: folder.path) == ["config.json", "model.safetensors"])
  }

  // MARK: Folders that transformers and bitsandbytes wrote

  @Test(arguments: ["llama", "llama_plain", "phi3"]) func foldersOfBitsandbytesLoad(_ name: String) throws {
    let text = try #require(TemporaryFolder.text(of: goldenPath("bitsandbytes/logits.json")))
    let golden = try #require(try JSONValue.parse(text)[name])
    let tokens = try #require(golden["tokens"]?.array).compactMap(\.integer).map { Int32($0) }
    let expected = try #require(golden["logits"]?.array).flatMap { $0.array?.compactMap(\.double) ?? [] }
    let checkpoint = try Checkpoint.open(path: goldenPath("bitsandbytes/\(name)"))
    let model = try LanguageModel(checkpoint, on: CPUDevice(compute: .float32))
    let logits = try model.logits(tokens)
    #expect(logits.count == expected.count)
    for (found, expected) in zip(logits, expected) { #expect(abs(Double(found) - expected) < 2e-4) }
  }
}
