import ModelFiles
import Tensors

/// Moves a checkpoint's tensors onto a device, one at a time, so that loading takes little more than the model itself.
struct WeightLoader {
  /// nil: weights are drawn, for measurements.
  let checkpoint: Checkpoint?
  let device: any Device
  let directions: ProductDirections
  var storage = WeightStorage.operands
  /// Where the matrices of layers lie that take turns on the device.
  var stream: (any MatrixStream)?

  /// The stored tensor of that name, its shape checked.
  func stored(_ name: String, rows: Int, columns: Int) throws -> StoredTensor {
    guard let checkpoint else { throw ModelError("a model of random weights has no tensor \(name)") }
    let tensor = try checkpoint.tensor(name)
    guard tensor.shape == [rows, columns] else {
      throw ModelError(
        "\(checkpoint.path): tensor \(name) is \(tensor.shape), the configuration asks for [\(rows), \(columns)]")
    }
    return tensor
  }

  /// A matrix `[outputs, inputs]`.
  func matrix(_ name: String, outputs: Int, inputs: Int) throws -> any FrozenMatrix {
    try matrices([(name, outputs)], inputs: inputs)[0]
  }

  /// Matrices that are multiplied with the same input.
  func matrices(_ parts: [(name: String, outputs: Int)], inputs: Int) throws -> [any FrozenMatrix] {
    guard checkpoint != nil else {
      // As large as what training starts from, so that activations stay of one size; each name draws its own.
      let seed = parts[0].name.utf8.reduce(14_695_981_039_346_656_037 as UInt64) {
        ($0 ^ UInt64($1)) &* 1_099_511_628_211
      }
      return try device.makeRandomMatrices(
        outputs: parts.map(\.outputs), inputs: inputs, bound: 1 / Float(inputs).squareRoot(), seed: seed,
        storage: storage(of: parts[0].name), segment: segment(of: parts[0].name))
    }
    let tensors = try parts.map { try stored($0.name, rows: $0.outputs, columns: inputs) }
    defer { for tensor in tensors { tensor.releasePages() } }
    let segment = segment(of: parts[0].name)
    return try device.makeFrozenMatrices(
      tensors.map {
        var source = $0.source(storage: storage(of: $0.name))
        source.segment = segment
        return source
      }, directions: directions)
  }

  /// Makes a matrix serve this loader's directions too.
  func extend(_ matrix: any FrozenMatrix, _ name: String) throws {
    let tensor = try stored(name, rows: matrix.outputs, columns: matrix.inputs)
    defer { tensor.releasePages() }
    try device.extend(matrix, directions: directions, source: tensor.source(storage: storage(of: name)))
  }

  private func segment(of tensor: String) -> MatrixSegment? {
    guard let stream, let layer = WeightStorage.layer(ofModule: tensor), let index = storage.segment(ofLayer: layer)
    else { return nil }
    return MatrixSegment(stream, index)
  }

  private func storage(of tensor: String) -> FrozenStorage {
    storage[tensor.hasSuffix(".weight") ? String(tensor.dropLast(".weight".count)) : tensor]
  }

  /// The sum of squares of each row of a stored matrix.
  func squaredRowNorms(_ name: String, rows: Int, columns: Int) throws -> [Float] {
    let tensor = try stored(name, rows: rows, columns: columns)
    defer { tensor.releasePages() }
    var norms = [Float](repeating: 0, count: rows)
    try withUnsafeTemporaryAllocation(of: Float.self, capacity: columns) { row in
      guard let base = row.baseAddress else { return }
      for index in 0..<rows {
        try tensor.decode(rows: index..<index + 1, into: base)
        // Sixteen sums side by side: as many as a vector has.
        var sums = SIMD16<Float>(repeating: 0)
        var column = 0
        while column + 16 <= columns {
          let part = UnsafeRawPointer(base + column).loadUnaligned(as: SIMD16<Float>.self)
          sums += part * part
          column += 16
        }
        var sum = sums.sum()
        while column < columns {
          sum += base[column] * base[column]
          column += 1
        }
        norms[index] = sum
      }
    }
    return norms
  }

  /// An fp32 vector `[1, count]`.
  func vector(_ name: String, count: Int) throws -> Tensor {
    guard let checkpoint else {
      return try device.tensor([Float](repeating: name.hasSuffix("norm.weight") ? 1 : 0, count: count))
    }
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

extension StoredTensor {
  /// The matrix for a device; rows that hold no finite numbers are an error.
  func source(storage: FrozenStorage) -> MatrixSource {
    var source = MatrixSource(
      outputs: rowCount, inputs: rowLength, storage: storage, stored: storedRows, nf4: nf4Blocks
    ) { rows, target in
      try decode(rows: rows, into: target)
      try requireFinite(target, count: rows.count * rowLength)
    }
    source.blocks = format.blocks.map { format in MatrixSource.Blocks(format: format) { storedRow($0)?.baseAddress } }
    return source
  }

  /// The rows as they are stored, where they are floats of 16 or 32 bits in order.
  private var storedRows: MatrixSource.Stored? {
    let dtype: DType
    switch format {
    case .bfloat16: dtype = .bfloat16
    case .float16: dtype = .float16
    case .float32: dtype = .float32
    default: return nil
    }
    guard bytes != nil else { return nil }
    return MatrixSource.Stored(dtype: dtype) { rows, target in
      let width = rowLength * dtype.byteCount
      guard let bytes, rows.upperBound * width <= bytes.count else {
        throw ModelError("tensor \(name) has no rows \(rows)")
      }
      let part = UnsafeRawBufferPointer(rebasing: bytes[rows.lowerBound * width..<rows.upperBound * width])
      if let base = part.baseAddress { target.copyMemory(from: base, byteCount: part.count) }
      try requireFinite(UnsafeRawBufferPointer(start: target, count: part.count))
    }
  }
}

extension StorageFormat {
  /// The format as devices know it; nil where they read no blocks of it.
  fileprivate var blocks: BlockFormat? {
    switch self {
    case .q4_0: .q4_0
    case .q4_1: .q4_1
    case .q5_0: .q5_0
    case .q5_1: .q5_1
    case .q8_0: .q8_0
    case .q4_K: .q4_K
    case .q5_K: .q5_K
    case .q6_K: .q6_K
    default: nil
    }
  }
}

extension Block {
  /// The block of one layer.
  init(layer: Int, _ configuration: ModelConfiguration, from loader: WeightLoader) throws {
    func projections(_ modules: TargetModule...) throws -> [Projection] {
      try loader.matrices(
        modules.map { ($0.path(layer: layer) + ".weight", configuration.size(of: $0).outputs) },
        inputs: configuration.size(of: modules[0]).inputs
      ).map { Projection($0) }
    }
    let path = "model.layers.\(layer)."
    attentionNorm = try loader.vector(path + "input_layernorm.weight", count: configuration.hiddenSize)
    mlpNorm = try loader.vector(path + "post_attention_layernorm.weight", count: configuration.hiddenSize)
    queryKeyValue = try projections(.query, .key, .value)
    output = try projections(.output)
    gateUp = try projections(.gate, .up)
    down = try projections(.down)
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
