import JSONValues
import ModelFiles
import Tensors

/// All of a model's weights as parameters that learn: matrices, embedding and head, norms, biases.
///
/// The fp32 values are the model's own: norms and biases are read where they lie, the embedding is looked up there, and
/// matrices are given to the device anew after each step.
public final class FullParameters: LearnedParameters {
  /// The tensors: matrices first, then vectors.
  public let parts: [LearnedPart]
  /// All elements: fp32 `[1, count]`.
  public let parameters: Tensor
  /// What a micro-batch's backward pass adds to: fp32 `[1, count]`.
  public let gradients: Tensor?
  private let places: [String: LearnedPart]
  private let device: any Device
  private let configuration: ModelConfiguration
  /// The device's matrix of each part that has one.
  private var matrices: [(part: LearnedPart, matrix: any FrozenMatrix)] = []

  static let embeddingName = "model.embed_tokens.weight"
  static let headName = "lm_head.weight"
  static let finalNormName = "model.norm.weight"

  /// The weights of `checkpoint` on `device`.
  init(_ checkpoint: Checkpoint, on device: any Device) throws {
    let configuration = checkpoint.configuration
    if let reason = Self.reasonAgainst(configuration) { throw ModelError(reason) }
    var parts: [LearnedPart] = []
    var offset = 0
    // Matrices first: what an optimizer treats alike lies together.
    for isVector in [false, true] {
      for (name, shape) in configuration.tensors where (shape.count == 1) == isVector {
        let (rows, columns) = isVector ? (1, shape[0]) : (shape[0], shape[1])
        parts.append(
          LearnedPart(
            name: name, rows: rows, columns: columns, range: offset..<offset + rows * columns,
            role: isVector ? .vector : .matrix))
        offset += rows * columns
      }
    }
    self.parts = parts
    self.device = device
    self.configuration = configuration
    places = Dictionary(uniqueKeysWithValues: parts.map { ($0.name, $0) })
    func vector() throws -> Tensor {
      Tensor(try device.allocate(byteCount: max(offset, 1) * 4), rows: 1, columns: offset, dtype: .float32)
    }
    parameters = try vector()
    gradients = try vector()
    if let gradients { try device.zero(gradients) }
    for part in parts { try load(checkpoint.tensor(part.name), into: part, of: checkpoint.path) }
  }

  private static func reasonAgainst(_ configuration: ModelConfiguration) -> String? {
    if configuration.storesFusedTensors {
      return "--full trains models of the Llama layout; make one of this with: swiftlet convert MODEL --to llama"
    }
    if configuration.normalizesHeads { return "--full cannot train the norms of heads that this model has; use LoRA" }
    return nil
  }

  private func load(_ tensor: StoredTensor, into part: LearnedPart, of path: String) throws {
    guard tensor.shape == part.shape else {
      throw ModelError("\(path): tensor \(part.name) is \(tensor.shape), the run needs \(part.shape)")
    }
    defer { tensor.releasePages() }
    // Some rows at a time: a matrix need not exist twice.
    let step = max(1, (1 << 20) / max(1, tensor.rowLength))
    for first in stride(from: 0, to: tensor.rowCount, by: step) {
      let rows = first..<min(first + step, tensor.rowCount)
      var values = [Float](repeating: 0, count: rows.count * tensor.rowLength)
      try values.withUnsafeMutableBufferPointer { values in
        guard let base = values.baseAddress else { return }
        try tensor.decode(rows: rows, into: base)
        try tensor.requireFinite(base, count: values.count)
      }
      let start = part.range.lowerBound + first * tensor.rowLength
      try values.withUnsafeBytes { try device.upload($0, to: parameters.columns(start..<start + values.count)) }
    }
  }

  /// A part's values as its matrix.
  func values(_ name: String) throws -> Tensor { parameters[try part(name)] }
  /// The place of a part's gradient.
  func gradient(_ name: String) throws -> Tensor? { gradients?[try part(name)] }

  private func part(_ name: String) throws -> LearnedPart {
    guard let part = places[name] else { throw ModelError("the model has no tensor \(name) to train") }
    return part
  }

  /// Says which of the device's matrices holds a part's values.
  func connect(_ matrix: any FrozenMatrix, to name: String) throws { matrices.append((try part(name), matrix)) }

  /// Nothing: the backward passes leave gradients as they are.
  public func finishGradients() {}

  /// Gives the device's matrices the values that their parts have.
  public func refresh() throws {
    for (part, matrix) in matrices { try device.replace(matrix, with: parameters[part]) }
  }

  /// Takes over the weights of a checkpoint's folder.
  public func load(folder: String) throws {
    let path = "\(folder)/\(Self.fileName)"
    let file = try SafetensorsFile(path: path)
    for part in parts {
      guard let tensor = file.tensor(part.name) else { throw ModelError("\(path): tensor \(part.name) is missing") }
      try load(tensor, into: part, of: path)
    }
    try refresh()
  }

  // MARK: Files

  /// The name of the weights' file.
  static let fileName = "model.safetensors"

  /// A copy of `vector` in the host's memory, to be written as a model's folder.
  public func snapshot(of vector: Tensor, baseModel: String?) throws -> any LearnedSnapshot {
    let json = try configuration.json(as: configuration.architecture, storedAs: .float32)
    return Snapshot(
      configuration: JSONValue.object(json).serialized(pretty: true) + "\n", parts: parts,
      values: try device.floats(vector))
  }

  private struct Snapshot: LearnedSnapshot {
    let configuration: String
    let parts: [LearnedPart]
    let values: [Float]

    func save(to folder: String) throws {
      let writer = try SafetensorsWriter(
        path: "\(folder)/\(FullParameters.fileName)",
        tensors: parts.map { SafetensorsEntry($0.name, shape: $0.shape, format: .float32) })
      try values.withUnsafeBufferPointer { values in
        for part in parts { try writer.append(UnsafeBufferPointer(rebasing: values[part.range]), to: part.name) }
      }
      try writer.finish()
      try writeAtomically(configuration, to: "\(folder)/config.json")
    }
  }
}

extension LanguageModel {
  /// Makes every weight of the model a parameter that learns, in place of any adapter.
  ///
  /// Call after ``prepareForTraining()``. Only a model of a checkpoint can learn.
  public func makeFullParameters() throws -> FullParameters {
    guard let checkpoint else { throw ModelError("a model of random weights has nothing to fine-tune") }
    let full = try FullParameters(checkpoint, on: device)
    attach(nil)
    for layer in blocks.indices {
      for module in TargetModule.allCases {
        let path = module.path(layer: layer)
        blocks[layer][module].gradient = try full.gradient(path + ".weight")
        try full.connect(blocks[layer][module].matrix, to: path + ".weight")
        if blocks[layer].biases[module] != nil { blocks[layer].biases[module] = try full.values(path + ".bias") }
      }
      let (attention, mlp) = (
        "model.layers.\(layer).input_layernorm.weight", "model.layers.\(layer).post_attention_layernorm.weight"
      )
      blocks[layer].attentionNorm = try full.values(attention)
      blocks[layer].mlpNorm = try full.values(mlp)
      guard let attentionGradient = try full.gradient(attention), let mlpGradient = try full.gradient(mlp) else {
        continue
      }
      var biases: [TargetModule: Tensor] = [:]
      for module in blocks[layer].biases.keys {
        biases[module] = try full.gradient(module.path(layer: layer) + ".bias")
      }
      blocks[layer].vectorGradients = VectorGradients(
        attentionNorm: attentionGradient, mlpNorm: mlpGradient, biases: biases)
    }
    finalNorm = try full.values(FullParameters.finalNormName)
    try full.connect(head, to: headName)
    learn(full, embedding: try full.values(FullParameters.embeddingName))
    return full
  }
}
