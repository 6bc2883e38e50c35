import CPUDevice
import JSONValues
import ModelFiles
import Tensors
import TestSupport
import Testing

@testable import Models

/// Gradients of all weights against central differences of the loss in float64.
@Suite struct FullGradientTests {
  static let cases = [
    ("tied head", TinyModel(seed: 61)),
    (
      "separate head, biases everywhere",
      TinyModel(changing: ["tie_word_embeddings": false, "attention_bias": true, "mlp_bias": true], seed: 62)
    ),
    (
      "biases on attention, wide heads",
      TinyModel(
        changing: [
          "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "head_dim": 6, "tie_word_embeddings": false,
        ], seed: 63)
    ),
  ]

  private func load(_ tiny: TinyModel, _ compute: CPUDevice.Compute) throws -> (LanguageModel, FullParameters) {
    let folder = try TemporaryFolder()
    try tiny.write(to: folder)
    let model = try LanguageModel(Checkpoint.open(path: folder.path), on: CPUDevice(compute: compute))
    try model.prepareForTraining()
    return (model, try model.makeFullParameters())
  }

  private func gradient(_ model: LanguageModel, _ full: FullParameters, _ batch: PackedBatch) throws -> [Float] {
    let gradients = try #require(full.gradients)
    try model.device.zero(gradients)
    _ = try model.forwardBackward(batch, lossScale: 1 / Float(batch.trainedTokenCount))
    full.finishGradients()
    return try model.device.floats(gradients)
  }

  @Test(arguments: cases) func gradientsAreThoseOfFiniteDifferences(name: String, tiny: TinyModel) throws {
    let test = ModelCase(description: name, tiny: tiny, lora: LoRAConfiguration())
    let batch = test.batch()
    let (model, full) = try load(tiny, .float32)
    try model.reserve(tokens: batch.tokens.count, ActivationPlan([], headRows: 8))
    let exact = try gradient(model, full, batch)
    let (rounded, roundedFull) = try load(tiny, .bfloat16)
    let bf16 = try gradient(rounded, roundedFull, batch)
    var reference = ReferenceModel(tiny)
    var random = SeededRandom(seed: 64)
    var (found, foundBF16, expected): ([Float], [Float], [Double]) = ([], [], [])
    for part in full.parts {
      var (mine, theirs): ([Float], [Double]) = ([], [])
      for _ in 0..<8 {
        let index = Int.random(in: 0..<part.range.count, using: &random)
        let value = try #require(reference.weights[part.name]?[index])
        let step = 1e-5
        func loss(_ change: Double) -> Double {
          reference.weights[part.name]?[index] = value + change
          return reference.loss(batch)
        }
        theirs.append((loss(step) - loss(-step)) / (2 * step) / Double(batch.trainedTokenCount))
        reference.weights[part.name]?[index] = value
        mine.append(exact[part.range.lowerBound + index])
        foundBF16.append(bf16[part.range.lowerBound + index])
      }
      // Tokens that do not occur have no gradient but through the head.
      let norm = theirs.reduce(0) { $0 + $1 * $1 }.squareRoot()
      #expect(norm < 1e-12 || relativeError(mine, theirs) < 2e-4, "\(part.name)")
      found += mine
      expected += theirs
    }
    #expect(relativeError(found, expected) < 1e-4)
    #expect(relativeError(foundBF16, expected) < 0.1)
  }

  @Test func recomputingAndMicroBatchesChangeNothing() throws {
    let tiny = Self.cases[1].1
    let test = ModelCase(description: "", tiny: tiny, lora: LoRAConfiguration())
    let batch = test.batch(lengths: [40, 7, 5, 21])
    let (model, full) = try load(tiny, .float32)
    try model.reserve(tokens: batch.tokens.count)
    let kept = try gradient(model, full, batch)
    for plan in [
      ActivationPlan.levels([.input]), .inputs,
      ActivationPlan([.init(.input, isOnHost: true)], rest: .input, grouping: .init(2, attentions: 1, isOnHost: true)),
    ] {
      try model.reserve(tokens: batch.tokens.count, plan)
      #expect(try gradient(model, full, batch) == kept, "\(plan)")
    }
  }

  /// What is moved is what the model computes with, and what is saved is what it was.
  @Test func theModelFollowsItsParameters() throws {
    let (model, full) = try load(Self.cases[1].1, .float32)
    let other = TinyModel(changing: Self.cases[1].1.config, seed: 99)
    var values = [Float](repeating: 0, count: full.count)
    for part in full.parts { values.replaceSubrange(part.range, with: other.values(part.name, part.shape)) }
    try values.withUnsafeBytes { try model.device.upload($0, to: full.parameters) }
    try full.refresh()
    let test = ModelCase(description: "", tiny: other, lora: LoRAConfiguration())
    let tokens = test.tokens(12)
    let expected = ReferenceModel(other).logits(tokens).flatMap(\.self)
    #expect(relativeError(try model.logits(tokens), expected) < 1e-5)

    let folder = try TemporaryFolder()
    try full.snapshot(baseModel: nil).save(to: folder.path)
    let saved = try LanguageModel(Checkpoint.open(path: folder.path), on: CPUDevice(compute: .float32))
    #expect(try saved.logits(tokens) == model.logits(tokens))
    #expect(saved.configuration.attentionBias && saved.configuration.mlpBias && !saved.configuration.tiesEmbeddings)
    try model.device.zero(full.parameters)
    try full.load(folder: folder.path)
    #expect(try model.device.floats(full.parameters) == values)
    #expect(try saved.logits(tokens) == model.logits(tokens))
  }

  @Test func modelsThatCannotBeTrainedWholeSayWhy() throws {
    for (changes, words) in [
      (
        [
          "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "hidden_size": 32, "num_key_value_heads": 1,
          "tie_word_embeddings": false,
        ] as JSONObject, "convert MODEL --to llama"
      ),
      (
        ["architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 6], "norms of heads"
      ),
    ] {
      let error = #expect(throws: ModelError.self) { try load(TinyModel(changing: changes), .float32) }
      #expect(error?.description.contains(words) == true)
    }
  }
}
