import ModelFiles
import Tensors

/// Moves a checkpoint's tensors onto a device, one at a time, so that loading takes little more than the model itself.
struct WeightLoader {
  let checkpoint: Checkpoint
  let device: any Device
  let directions: ProductDirections

  /// The stored tensor of that name, its shape checked.
  func stored(_ name: String, rows: Int, columns: Int) throws -> StoredTensor {
    let tensor = try checkpoint.tensor(name)
    guard tensor.shape == [rows, columns] else {
      throw ModelError(
        "\(checkpoint.path): tensor \(name) is \(tensor.shape), the configuration asks for [\(rows), \(columns)]")
    }
    return tensor
  }

  /// A matrix `[outputs, inputs]`.
  func matrix(_ name: String, outputs: Int, inputs: Int) throws -> any FrozenMatrix {
    let tensor = try stored(name, rows: outputs, columns: inputs)
    defer { tensor.releasePages() }
    return try device.makeFrozenMatrix(outputs: outputs, inputs: inputs, directions: directions) {
      try tensor.decode(rows: $0, into: $1)
      try tensor.requireFinite($1, count: $0.count * inputs)
    }
  }

  /// Makes a matrix serve this loader's directions too.
  func extend(_ matrix: any FrozenMatrix, _ name: String) throws {
    let tensor = try stored(name, rows: matrix.outputs, columns: matrix.inputs)
    defer { tensor.releasePages() }
    try device.extend(matrix, directions: directions) { try tensor.decode(rows: $0, into: $1) }
  }

  /// An fp32 vector `[1, count]`.
  func vector(_ name: String, count: Int) throws -> Tensor {
    let tensor = try checkpoint.tensor(name)
    guard tensor.shape == [count] else {
      throw ModelError("\(checkpoint.path): tensor \(name) is \(tensor.shape), the configuration asks for [\(count)]")
    }
    let values = try tensor.decoded()
    try values.withUnsafeBufferPointer { buffer in
      if let base = buffer.baseAddress { try tensor.requireFinite(base, count: count) }
    }
    return try device.tensor(values)
  }
}

extension Block {
  /// The block of one layer.
  init(layer: Int, _ configuration: ModelConfiguration, from loader: WeightLoader) throws {
    func projection(_ module: TargetModule) throws -> Projection {
      let (outputs, inputs) = configuration.size(of: module)
      return Projection(
        try loader.matrix(module.path(layer: layer) + ".weight", outputs: outputs, inputs: inputs))
    }
    let path = "model.layers.\(layer)."
    attentionNorm = try loader.vector(path + "input_layernorm.weight", count: configuration.hiddenSize)
    mlpNorm = try loader.vector(path + "post_attention_layernorm.weight", count: configuration.hiddenSize)
    queryKeyValue = [try projection(.query), try projection(.key), try projection(.value)]
    output = [try projection(.output)]
    gateUp = [try projection(.gate), try projection(.up)]
    down = [try projection(.down)]
    biases = [:]
    for module in TargetModule.allCases where configuration.hasBias(module) {
      biases[module] = try loader.vector(
        module.path(layer: layer) + ".bias", count: configuration.size(of: module).outputs)
    }
    headNorms =
      configuration.normalizesHeads
      ? (
        query: try loader.vector(path + "self_attn.q_norm.weight", count: configuration.headDimension),
        key: try loader.vector(path + "self_attn.k_norm.weight", count: configuration.headDimension)
      ) : nil
    rotates = configuration.rotates(layer: layer)
    window = configuration.slidingWindow(layer: layer)
  }
}
