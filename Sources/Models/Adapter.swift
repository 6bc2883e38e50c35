import ModelFiles
import Tensors

/// The low-rank pairs of a model: the parameters that fine-tuning learns.
///
/// All pairs lie in one flat fp32 vector, every A first and every B after, so that the optimizer, clipping and saving see
/// one array. Copies in the type of matrix operands lie beside it, refreshed by ``refresh()``.
public final class Adapter {
  /// One of a pair's two matrices.
  public struct Part: Sendable {
    /// PEFT's name: "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight".
    public let name: String
    /// The rank for A, the output features for B.
    public let rows: Int
    /// The input features for A, the rank for B.
    public let columns: Int
    /// Where its elements lie in ``Adapter/parameters``.
    public let range: Range<Int>
  }

  /// Where a pair belongs.
  struct Place: Hashable {
    var layer: Int
    var module: TargetModule
  }

  /// What the adapter looks like.
  public let configuration: LoRAConfiguration
  /// A and B of every pair, in the order of layers and modules: A's first, then B's.
  public let parts: [Part]
  /// All elements: fp32 `[1, count]`.
  public let parameters: Tensor
  /// What a micro-batch's backward pass adds to: fp32 `[1, count]`; nil when the adapter is only used.
  public let gradients: Tensor?
  /// Where every A ends and every B begins in ``parameters``.
  public let boundary: Int

  let pairs: [Place: LowRankPair]
  private let device: any Device
  private let copies: Tensor

  /// The number of learned elements.
  public var count: Int { parameters.columns }

  /// An adapter whose elements are all zero, for `model`'s shapes.
  init(_ configuration: LoRAConfiguration, for model: ModelConfiguration, on device: any Device, training: Bool) throws
  {
    let modules = TargetModule.allCases.filter { configuration.targetModules.contains($0) }
    let places = (0..<model.layerCount).flatMap { layer in modules.map { Place(layer: layer, module: $0) } }
    let rank = configuration.rank
    var parts: [Part] = []
    var offset = 0
    for isA in [true, false] {
      for place in places {
        let (outputs, inputs) = model.size(of: place.module)
        let (rows, columns) = isA ? (rank, inputs) : (outputs, rank)
        parts.append(
          Part(
            name: AdapterFile.tensorName(layer: place.layer, module: place.module, isB: !isA),
            rows: rows, columns: columns, range: offset..<offset + rows * columns))
        offset += rows * columns
      }
    }
    self.configuration = configuration
    self.device = device
    self.parts = parts
    boundary = parts.count > 0 ? parts[places.count].range.lowerBound : 0
    func vector(_ dtype: DType) throws -> Tensor {
      Tensor(try device.allocate(byteCount: max(offset, 1) * dtype.byteCount), rows: 1, columns: offset, dtype: dtype)
    }
    parameters = try vector(.float32)
    gradients = training ? try vector(.float32) : nil
    copies = try vector(device.computeType)
    try device.zero(parameters)
    if let gradients { try device.zero(gradients) }
    var pairs: [Place: LowRankPair] = [:]
    for (index, place) in places.enumerated() {
      let (a, b) = (parts[index], parts[places.count + index])
      pairs[place] = LowRankPair(
        a: copies[a], scaledB: copies[b], gradientA: gradients?[a], gradientB: gradients?[b],
        dropout: Float(configuration.dropout), stream: UInt32(index))
    }
    self.pairs = pairs
  }

  /// Draws A as PEFT does, uniform in ±1/√inputs (Kaiming with a = √5), and sets B to zero: the model is unchanged.
  public func initialize(seed: UInt64) throws {
    var random = RandomSource(seed: seed)
    var values = [Float](repeating: 0, count: count)
    for part in parts where part.range.lowerBound < boundary {
      let bound = 1 / Double(part.columns).squareRoot()
      for index in part.range { values[index] = Float((2 * random.uniform() - 1) * bound) }
    }
    try set(values)
  }

  /// Replaces all elements, in the order of ``parts``.
  public func set(_ values: [Float]) throws {
    guard values.count == count else {
      throw ModelError("an adapter of \(count) parameters was given \(values.count)")
    }
    try values.withUnsafeBytes { try device.upload($0, to: parameters) }
    try refresh()
  }

  /// All elements, in the order of ``parts``.
  public func values() throws -> [Float] { try device.floats(parameters) }

  /// Brings the copies that matrix products read up to date with ``parameters``; B's copies carry the scale.
  public func refresh() throws {
    try device.scale(parameters.columns(0..<boundary), by: 1, to: copies.columns(0..<boundary))
    try device.scale(
      parameters.columns(boundary..<count), by: Float(configuration.scale), to: copies.columns(boundary..<count))
  }

  /// Turns the accumulated gradients of s·B into those of B.
  ///
  /// Once per step, before clipping.
  public func finishGradients() throws {
    guard let gradients, configuration.scale != 1 else { return }
    let b = gradients.columns(boundary..<count)
    try device.scale(b, by: Float(configuration.scale), to: b)
  }

  /// Whether every element is a finite number.
  public func isFinite() throws -> Bool { try device.squaredNorm(parameters).isFinite }
}

extension Tensor {
  /// A part's matrix in a flat vector.
  fileprivate subscript(_ part: Adapter.Part) -> Tensor {
    columns(part.range).reshaped(rows: part.rows, columns: part.columns)
  }
}
