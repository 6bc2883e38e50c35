import CPUDevice
import JSONValues
import ModelFiles
import Tensors
import TestSupport

@testable import Models

/// A tiny model that differs in one way from the plain one, and an adapter for it.
struct ModelCase: Sendable, CustomStringConvertible {
  var description: String
  var tiny: TinyModel
  var lora: LoRAConfiguration

  static let all = [
    ModelCase(description: "tied head, shared keys", tiny: TinyModel(), lora: LoRAConfiguration(rank: 2, alpha: 2)),
    ModelCase(
      description: "separate head, biases, heads wider than hidden / heads, rsLoRA",
      tiny: TinyModel(
        changing: [
          "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "head_dim": 6, "tie_word_embeddings": false,
        ], seed: 2),
      lora: LoRAConfiguration(rank: 3, alpha: 5, useRSLoRA: true)),
    ModelCase(
      description: "sliding window, one key head",
      tiny: TinyModel(
        changing: [
          "architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": 4,
          "num_key_value_heads": 1, "tie_word_embeddings": false,
        ], seed: 3), lora: LoRAConfiguration(rank: 1, alpha: 3)),
    ModelCase(
      description: "adapters on q, v and down only", tiny: TinyModel(changing: ["num_key_value_heads": 4], seed: 4),
      lora: LoRAConfiguration(rank: 4, alpha: 8, targetModules: [.query, .value, .down])),
    ModelCase(
      description: "adapters on k, o, gate and up only", tiny: TinyModel(seed: 5),
      lora: LoRAConfiguration(rank: 2, alpha: 1, targetModules: [.key, .output, .gate, .up])),
    ModelCase(
      description: "biases on every projection",
      tiny: TinyModel(changing: ["attention_bias": true, "mlp_bias": true], seed: 6),
      lora: LoRAConfiguration(rank: 2, alpha: 4)),
    ModelCase(
      description: "DoRA, biases on every projection",
      tiny: TinyModel(changing: ["attention_bias": true, "mlp_bias": true], seed: 12),
      lora: LoRAConfiguration(rank: 2, alpha: 4, useDoRA: true)),
    ModelCase(
      description: "DoRA on k, o and up only, rsLoRA", tiny: TinyModel(seed: 13),
      lora: LoRAConfiguration(rank: 3, alpha: 2, useRSLoRA: true, useDoRA: true, targetModules: [.key, .output, .up])),
    ModelCase(
      description: "norms of heads, biases on attention",
      tiny: TinyModel(
        changing: [
          "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 6, "attention_bias": true,
        ], seed: 7),
      lora: LoRAConfiguration(rank: 3, alpha: 3)),
    ModelCase(
      description: "norms of heads wider than a vector, adapters on q and v",
      tiny: TinyModel(
        changing: [
          "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 22, "num_attention_heads": 2,
          "num_key_value_heads": 1, "num_hidden_layers": 2,
        ], seed: 8), lora: LoRAConfiguration(rank: 2, alpha: 3, targetModules: [.query, .value])),
    ModelCase(
      description: "a layer without rotation",
      tiny: TinyModel(
        changing: [
          "architectures": ["SmolLM3ForCausalLM"], "model_type": "smollm3", "no_rope_layers": [1, 0, 1],
          "attention_bias": true,
        ], seed: 9),
      lora: LoRAConfiguration(rank: 2, alpha: 3)),
    ModelCase(
      description: "fused tensors, part of each head rotated",
      tiny: TinyModel(
        changing: [
          "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "hidden_size": 32, "num_attention_heads": 4,
          "num_key_value_heads": 1, "partial_rotary_factor": 0.75, "tie_word_embeddings": false,
        ], seed: 10), lora: LoRAConfiguration(rank: 2, alpha: 2)),
  ]

  /// The model on a device, with a random adapter attached.
  func load(
    _ compute: CPUDevice.Compute, threads: Int? = nil, dropout: Double = 0
  ) throws -> (model: LanguageModel, adapter: Adapter) {
    let folder = try TemporaryFolder()
    try tiny.write(to: folder)
    let checkpoint = try Checkpoint.open(path: folder.path)
    let model = try LanguageModel(
      checkpoint, on: CPUDevice(compute: compute, threads: threads), directions: [.forward, .backward])
    var lora = lora
    lora.dropout = dropout
    let adapter = try model.makeAdapter(lora, training: true)
    var random = SeededRandom(seed: 11)
    try adapter.set((0..<adapter.count).map { _ in Float.random(in: -0.4..<0.4, using: &random) })
    model.attach(adapter)
    return (model, adapter)
  }

  /// Documents of several lengths with some tokens that are not trained on; one document has none that is.
  func batch(lengths: [Int] = [9, 1, 3, 12, 2], seed: UInt64 = 21) -> PackedBatch {
    var random = SeededRandom(seed: seed)
    var batch = PackedBatch()
    for (index, length) in lengths.enumerated() {
      let ids = (0..<length).map { _ in Int32.random(in: 0..<Int32(tiny.size("vocab_size")), using: &random) }
      batch.append(ids, isTrained: ids.map { _ in index != 2 && Int.random(in: 0..<10, using: &random) < 7 })
    }
    return batch
  }

  /// Tokens of one sequence.
  func tokens(_ count: Int, seed: UInt64 = 31) -> [Int32] {
    var random = SeededRandom(seed: seed)
    return (0..<count).map { _ in Int32.random(in: 0..<Int32(tiny.size("vocab_size")), using: &random) }
  }
}

extension LanguageModel {
  /// The summed loss of a batch and the gradient of its mean over `trained` tokens (nil: the batch's own).
  func gradient(
    _ batch: PackedBatch, of adapter: Adapter, dropout: DropoutKey? = nil, trained: Int? = nil
  ) throws -> (loss: Double, gradient: [Float]) {
    let gradients = try adapter.trainingGradients
    try device.zero(gradients)
    let scale = 1 / Float(max(1, trained ?? batch.trainedTokenCount))
    let loss = try forwardBackward(batch, lossScale: scale, dropout: dropout)
    try adapter.finishGradients()
    return (loss, try device.floats(gradients))
  }
}

extension Adapter {
  /// The gradients of an adapter that is trained.
  var trainingGradients: Tensor {
    get throws {
      guard let gradients else { throw ModelError("the adapter has no gradients") }
      return gradients
    }
  }
}

/// |a - b| / |b|, in the Euclidean norm.
func relativeError(_ a: some Sequence<Float>, _ b: some Sequence<Double>) -> Double {
  var (difference, norm) = (0.0, 0.0)
  for (a, b) in zip(a, b) {
    difference += (Double(a) - b) * (Double(a) - b)
    norm += b * b
  }
  return (difference / max(norm, 1e-300)).squareRoot()
}
