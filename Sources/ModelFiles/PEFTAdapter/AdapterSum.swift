/// The sum of adapters as one that has a single rank and scale.
///
/// Ranks lie one behind the other, which is exact: B₁A₁ + B₂A₂ = [B₁ B₂] · [A₁; A₂]. Pairs of a smaller rank are filled up
/// with zeros, which training leaves zeros; scales that differ go into B.
public struct AdapterSum: Sendable {
  /// The adapters that are summed.
  public let files: [AdapterFile]
  /// What describes the sum; its target modules are those that have a pair.
  public let configuration: AdapterConfiguration
  /// The layers with a pair.
  public let layers: [Int]
  /// The projections with a pair, in the order of a block.
  public let modules: [TargetModule]
  private let pairs: [String: [AdapterFile.Pair]]

  /// Sums adapters that were opened for one model; throws when there is none.
  public init(_ files: [AdapterFile]) throws(ModelFileError) {
    guard let first = files.first else { throw ModelFileError("adapter", "there is no adapter to sum") }
    if files.count > 1, let odd = files.first(where: { $0.configuration.usesDoRA }) {
      throw ModelFileError(
        odd.folder,
        "this is a DoRA adapter, whose sum with others is no adapter; take it alone, or add them all to the weights "
          + "(export --format merged)")
    }
    let all = files.flatMap(\.pairs)
    pairs = Dictionary(grouping: all) { Self.key($0.layer, $0.projection) }
    layers = Set(all.map(\.layer)).sorted()
    modules = TargetModule.allCases.filter { module in all.contains { $0.projection == module.rawValue } }
    var sum = first.configuration
    sum.rankPattern = [:]
    sum.alphaPattern = [:]
    sum.targetModules = modules.map(\.rawValue)
    let rank = pairs.values.map { $0.reduce(0) { $0 + $1.rank } }.max() ?? 0
    let scales = Set(all.map(\.scale))
    if scales.count == 1, let scale = scales.first, rank != sum.rank || scale != sum.scale {
      (sum.alpha, sum.usesRSLoRA) = (scale * Double(rank), false)
    } else if scales.count > 1 {
      (sum.alpha, sum.usesRSLoRA) = (Double(rank), false)
    }
    sum.rank = rank
    if files.count > 1 { sum.dropout = 0 }
    for file in files.dropFirst() {
      if file.configuration.baseModel != sum.baseModel { sum.baseModel = nil }
      if file.configuration.layers != sum.layers { sum.layers = layers }
    }
    configuration = sum
    self.files = files
  }

  /// A `[rank, inputs]` and B `[outputs, rank]` of a projection; `nil` where no adapter has one.
  public func decode(layer: Int, module: TargetModule) throws(ModelFileError) -> (a: [Float], b: [Float])? {
    guard let pairs = pairs[Self.key(layer, module.rawValue)], let first = pairs.first else { return nil }
    let (rank, inputs, outputs) = (configuration.rank, first.a.rowLength, first.b.rowCount)
    var a = [Float](repeating: 0, count: rank * inputs)
    var b = [Float](repeating: 0, count: outputs * rank)
    var start = 0
    for pair in pairs {
      guard pair.a.rowLength == inputs, pair.b.rowCount == outputs else {
        throw ModelFileError(
          pair.a.file.path,
          "\(module.path(layer: layer)) is \(pair.b.rowCount) by \(pair.a.rowLength) here and \(outputs) by \(inputs) in "
            + "\(first.a.file.path); the adapters are for different models")
      }
      let factor = pair.scale == configuration.scale ? 1 : Float(pair.scale / configuration.scale)
      let (ownA, ownB) = (try pair.a.finite(), try pair.b.finite())
      a.replaceSubrange(start * inputs..<(start + pair.rank) * inputs, with: ownA)
      for row in 0..<outputs {
        for column in 0..<pair.rank { b[row * rank + start + column] = ownB[row * pair.rank + column] * factor }
      }
      start += pair.rank
    }
    return (a, b)
  }

  /// DoRA's magnitudes of a projection; `nil` where it has none.
  public func magnitudes(layer: Int, module: TargetModule) throws(ModelFileError) -> [Float]? {
    guard let magnitude = pairs[Self.key(layer, module.rawValue)]?.first?.magnitude else { return nil }
    return try magnitude.finite()
  }

  private static func key(_ layer: Int, _ projection: String) -> String { "\(layer).\(projection)" }
}

extension StoredTensor {
  /// All values in fp32; throws when one is NaN or infinite.
  public func finite() throws(ModelFileError) -> [Float] {
    let values = try decoded()
    let result = values.withUnsafeBufferPointer { values in
      Result { () throws(ModelFileError) in
        if let base = values.baseAddress { try requireFinite(base, count: values.count) }
      }
    }
    try result.get()
    return values
  }
}
