import ModelFiles

/// Measurements on the disk: one safetensors file, so that other budgets need no second reading of the text.
extension Calibration {
  private static let version = "1"

  /// Writes what was measured of the model of `checkpoint`; correlations, which are large, are left out.
  public func save(to path: String, of checkpoint: Checkpoint, text: [Int32]) throws {
    let texts = changes.values.first?.count ?? 0
    let changes = changes.sorted { $0.key < $1.key }
    let inputs = inputs.map { ($0.module.path(layer: $0.layer) + ".moments", $1.moments) }.sorted { $0.0 < $1.0 }
    let writer = try SafetensorsWriter(
      path: path,
      tensors: changes.map { SafetensorsEntry($0.key + ".changes", shape: [texts], format: .float32) }
        + inputs.map { SafetensorsEntry($0.0, shape: [$0.1.count], format: .float32) },
      metadata: [
        ("swiftlet_calibration", Self.version), ("tokens", String(tokens)),
        ("model", try Self.fingerprint(of: checkpoint)), ("text", Self.fingerprint(of: text)),
      ])
    for (name, values) in changes { try writer.append(values, to: name + ".changes") }
    for (name, values) in inputs { try writer.append(values, to: name) }
    try writer.finish()
  }

  /// Reads what ``save(to:of:text:)`` wrote for the same weights, in whatever file they are.
  ///
  /// - Parameter text: where it is given, the measurements must be of it.
  public init(contentsOf path: String, of checkpoint: Checkpoint, text: [Int32]? = nil) throws {
    let file = try SafetensorsFile(path: path)
    guard file.metadata["swiftlet_calibration"] == Self.version,
      let tokens = file.metadata["tokens"].flatMap({ Int($0) }),
      tokens > 0
    else { throw ModelFileError(path, "this holds no measurements of a calibration; name another --measurements") }
    guard file.metadata["model"] == (try Self.fingerprint(of: checkpoint)) else {
      throw ModelFileError(path, "these are measurements of other weights; name another --measurements")
    }
    if let text, file.metadata["text"] != Self.fingerprint(of: text) {
      throw ModelFileError(
        path, "these were measured on another text, or on more or fewer tokens of it; name another --measurements")
    }
    self.tokens = tokens
    let configuration = checkpoint.configuration
    func numbers(_ name: String, count: Int?) throws -> [Float] {
      guard let tensor = file.tensor(name), tensor.format == .float32, tensor.shape.count == 1,
        count == nil || tensor.count == count, tensor.count > 0
      else { throw ModelFileError(path, "the measurements of \(name) are missing or have another size; measure again") }
      let values = try tensor.decoded()
      guard values.allSatisfy({ $0.isFinite && $0 >= 0 }) else {
        throw ModelFileError(path, "the measurements of \(name) are no sums of squares; measure again")
      }
      return values
    }
    var texts: Int?
    for layer in 0..<configuration.layerCount {
      for module in TargetModule.allCases {
        let name = module.path(layer: layer)
        let values = try numbers(name + ".changes", count: texts)
        texts = values.count
        changes[name] = values
        guard Self.firstReader(module) == module else { continue }
        var statistics = InputStatistics(inputs: configuration.size(of: module).inputs, correlates: false)
        statistics.moments = try numbers(name + ".moments", count: statistics.moments.count)
        inputs[Group(layer: layer, module: module)] = statistics
      }
    }
  }

  /// A number that other weights do not have: of the first row of every linear layer.
  private static func fingerprint(of checkpoint: Checkpoint) throws -> String {
    var hash = FNV1a()
    for layer in 0..<checkpoint.configuration.layerCount {
      for module in TargetModule.allCases {
        let tensor = try checkpoint.tensor(module.path(layer: layer) + ".weight")
        guard tensor.rowCount > 0 else { continue }
        var row = [Float](repeating: 0, count: tensor.rowLength)
        try row.withUnsafeMutableBufferPointer { row in
          if let base = row.baseAddress { try tensor.decode(rows: 0..<1, into: base) }
        }
        // Zeros have two signs.
        for value in row { hash.add(value == 0 ? 0 : value.bitPattern) }
        tensor.releasePages()
      }
    }
    return hash.text
  }

  private static func fingerprint(of text: [Int32]) -> String {
    var hash = FNV1a()
    for token in text { hash.add(UInt32(bitPattern: token)) }
    return hash.text
  }
}

/// Fowler, Noll and Vo's hash of 64 bits: it tells files apart that were mixed up, not ones that somebody forged.
private struct FNV1a {
  private var state: UInt64 = 14_695_981_039_346_656_037

  mutating func add(_ word: UInt32) {
    for shift in stride(from: UInt32(0), to: 32, by: 8) {
      state = (state ^ UInt64(word >> shift & 0xFF)) &* 1_099_511_628_211
    }
  }

  var text: String { String(state, radix: 16) }
}
