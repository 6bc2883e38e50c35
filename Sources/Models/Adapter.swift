import ModelFiles
import Tensors

/// The low-rank pairs of a model: the parameters that fine-tuning learns.
///
/// All pairs lie in one flat fp32 vector, every A first and every B after, so that the optimizer, clipping and saving see
/// one array. Copies in the type of matrix operands lie beside it, refreshed by ``refresh()``.
public final class Adapter: LearnedParameters {
  /// One of a pair's matrices, named as PEFT names it.
  public typealias Part = LearnedPart

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
  /// Where every B ends; magnitudes follow, where there are any.
  let pairEnd: Int

  let pairs: [Place: LowRankPair]
  let model: ModelConfiguration
  let device: any Device
  private let copies: Tensor
  private let magnitudes: Magnitudes?

  /// An adapter whose elements are all zero, for `model`'s shapes.
  ///
  /// `base`: the matrix that a place adapts and the squared norms of its rows, asked for with DoRA only.
  init(
    _ configuration: LoRAConfiguration, for model: ModelConfiguration, on device: any Device, training: Bool,
    base: (Place) throws -> Magnitudes.Base
  ) throws {
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
            rows: rows, columns: columns, range: offset..<offset + rows * columns, role: isA ? .lowRankA : .lowRankB))
        offset += rows * columns
      }
    }
    pairEnd = offset
    let magnitudeStart = parts.count
    if configuration.useDoRA {
      for place in places {
        let outputs = model.size(of: place.module).outputs
        parts.append(
          Part(
            name: AdapterFile.magnitudeName(layer: place.layer, module: place.module), rows: 1, columns: outputs,
            range: offset..<offset + outputs, role: .vector))
        offset += outputs
      }
    }
    self.configuration = configuration
    self.model = model
    self.device = device
    self.parts = parts
    boundary = parts.count > 0 ? parts[places.count].range.lowerBound : 0
    func vector(_ dtype: DType) throws -> Tensor {
      Tensor(try device.allocate(byteCount: max(offset, 1) * dtype.byteCount), rows: 1, columns: offset, dtype: dtype)
    }
    parameters = try vector(.float32)
    gradients = training ? try vector(.float32) : nil
    copies = Tensor(
      try device.allocate(byteCount: max(pairEnd, 1) * device.computeType.byteCount), rows: 1, columns: pairEnd,
      dtype: device.computeType)
    let magnitudes =
      configuration.useDoRA
      ? try Magnitudes(places.map(base), rank: rank, parameters.columns(pairEnd..<offset), on: device) : nil
    try device.zero(parameters)
    if let gradients { try device.zero(gradients) }
    var pairs: [Place: LowRankPair] = [:]
    for (index, place) in places.enumerated() {
      let (a, b) = (parts[index], parts[places.count + index])
      var pair = LowRankPair(
        a: copies[a], scaledB: copies[b], gradientA: gradients?[a], gradientB: gradients?[b],
        dropout: Float(configuration.dropout), stream: UInt32(index))
      if let magnitudes {
        let range = parts[magnitudeStart + index].range
        pair.magnitude = LowRankPair.Magnitude(
          factors: magnitudes.factors.columns(range.lowerBound - pairEnd..<range.upperBound - pairEnd),
          gradient: gradients?.columns(range))
        magnitudes.add(pair, at: index)
      }
      pairs[place] = pair
    }
    self.pairs = pairs
    self.magnitudes = magnitudes
  }

  /// Draws A as PEFT does, uniform in ±1/√inputs (Kaiming with a = √5), and sets B to zero and magnitudes to
  /// the rows' norms: the model is unchanged.
  public func initialize(seed: UInt64) throws {
    var random = RandomSource(seed: seed)
    var values = [Float](repeating: 0, count: count)
    for part in parts where part.range.lowerBound < boundary {
      let bound = 1 / Double(part.columns).squareRoot()
      for index in part.range { values[index] = Float((2 * random.uniform() - 1) * bound) }
    }
    try fillMagnitudes(&values)
    try set(values)
  }

  /// Sets magnitudes, where there are any, to the norms of the rows of the frozen matrices.
  func fillMagnitudes(_ values: inout [Float]) throws {
    if let magnitudes { values.replaceSubrange(pairEnd..., with: try magnitudes.rowNorms()) }
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
      parameters.columns(boundary..<pairEnd), by: Float(configuration.scale), to: copies.columns(boundary..<pairEnd))
    try magnitudes?.refresh()
  }

  /// Turns the accumulated gradients of s·B into those of B, and those of factors into those of magnitudes.
  ///
  /// Once per step, before clipping.
  public func finishGradients() throws {
    guard let gradients else { return }
    if configuration.scale != 1 {
      let b = gradients.columns(boundary..<pairEnd)
      try device.scale(b, by: Float(configuration.scale), to: b)
    }
    if let magnitudes {
      let m = gradients.columns(pairEnd..<count)
      try device.scaleColumns(m, by: magnitudes.inverses, into: m, accumulate: false)
    }
  }

  /// Whether every element is a finite number.
  public func isFinite() throws -> Bool { try device.squaredNorm(parameters).isFinite }
}

extension Tensor {
  /// A part's matrix in a flat vector.
  subscript(_ part: LearnedPart) -> Tensor {
    columns(part.range).reshaped(rows: part.rows, columns: part.columns)
  }
}
