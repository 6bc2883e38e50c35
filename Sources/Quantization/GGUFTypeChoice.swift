import Export
import ModelFiles

/// Chooses the type of each linear layer of a GGUF so that a file of so many bytes is as near to the model as it can be.
///
/// ```swift
/// var choice = try GGUFTypeChoice(of: "phi-4", type: .q4_k_m)
/// try choice.measure(calibration)
/// try choice.choose(percent: 0)
/// try GGUFExport(of: "phi-4", type: .q4_k_m, formats: choice.formats).write(to: "phi-4.gguf")
/// ```
///
/// The prediction for a type is the layer's sensitivity, measured with NF4's error, times the ratio of the two errors'
/// squares, weighted by the inputs that calibration saw.
public struct GGUFTypeChoice: Sendable {
  /// A linear layer, or several that llama.cpp has fused.
  struct Layer: Sendable {
    let name: String
    let modules: [(layer: Int, module: TargetModule)]
    let parts: [StoredTensor]
    /// The type that the file's type gives it.
    let usual: StorageFormat
    var options: [Option] = []
    var chosen: StorageFormat
  }

  /// A type that a layer can have.
  struct Option: Sendable {
    let format: StorageFormat
    let byteCount: Int
    let predictedKL: Double
  }

  /// What was chosen, in numbers.
  public struct Prediction: Sendable {
    /// Bytes of all tensors.
    public let byteCount: Int
    /// The sum of the predictions for all linear layers, in nats per token.
    public let predictedKL: Double
  }

  /// The types that are considered, beside the type of 16 bits that the model has.
  static let formats: [StorageFormat] = [.q4_0, .q4_1, .q4_K, .q5_0, .q5_1, .q5_K, .q6_K, .q8_0]

  private(set) var layers: [Layer] = []
  /// What the model is read from.
  public let checkpoint: Checkpoint
  private let usualByteCount: Int
  private let otherByteCount: Int

  /// Reads the model that would be exported as `type`.
  public init(of path: String, type: GGUFType) throws {
    let export = try GGUFExport(of: path, type: type)
    let checkpoint = try Checkpoint.open(path: path)
    self.checkpoint = checkpoint
    try checkpoint.requireWeightsBesideNF4(path)
    let places = checkpoint.projectionWeights
    var layerBytes = 0
    for (tensor, name, format, byteCount) in export.contents {
      let parts = tensor.storedParts
      let modules = parts.compactMap { places[$0.name] }
      guard !modules.isEmpty, modules.count == parts.count else { continue }
      layers.append(Layer(name: name, modules: modules, parts: parts, usual: format, chosen: format))
      layerBytes += byteCount
    }
    usualByteCount = export.byteCount
    otherByteCount = export.byteCount - layerBytes
  }

  /// The number of layers, for progress.
  public var layerCount: Int { layers.count }

  /// Finds what each type would cost each layer; `onProgress` receives the number of layers done.
  public mutating func measure(_ calibration: Calibration, onProgress: (Int) throws -> Void = { _ in }) throws {
    let sensitivities = calibration.sensitivities
    for index in layers.indices {
      let layer = layers[index]
      let width = layer.parts[0].rowLength
      let sixteen: StorageFormat = layer.parts[0].format == .bfloat16 ? .bfloat16 : .float16
      let formats = Set(Self.formats + [sixteen, layer.usual]).filter { width % $0.block.length == 0 }
      var losses = [StorageFormat: Double](minimumCapacity: formats.count)
      for (part, place) in zip(layer.parts, layer.modules) {
        guard let statistics = calibration.statistics(layer: place.layer, place.module) else {
          throw ModelFileError(part.file.path, "\(part.name) was not calibrated")
        }
        let rows = StackedRows([part], name: part.name)
        let errors = try TypeErrors(rows, formats, statistics.moments)
        let sensitivity = sensitivities[place.module.path(layer: place.layer)] ?? 0
        for format in formats {
          losses[format, default: 0] += errors.nf4 > 0 ? sensitivity * (errors[format] ?? 0) / errors.nf4 : 0
        }
        part.releasePages()
      }
      let elements = layer.parts.reduce(0) { $0 + $1.count }
      layers[index].options = losses.map { format, loss in
        Option(format: format, byteCount: elements / format.block.length * format.block.byteCount, predictedKL: loss)
      }.sorted { ($0.byteCount, $0.format.rawValue) < ($1.byteCount, $1.format.rawValue) }
      try onProgress(index + 1)
    }
  }

  /// Takes for each layer the type that lets all together lose least, in `percent` more bytes than the file's type takes.
  public mutating func choose(percent: Double) throws {
    guard percent >= 0, percent.isFinite else { throw QuantizationError("--budget must not be below 0 per cent") }
    let limit = (1 + percent / 100) * Double(usualByteCount)
    let most = layers.reduce(otherByteCount) { $0 + ($1.options.map(\.byteCount).max() ?? 0) }
    guard limit < Double(most) else {
      let share = (Double(most) / Double(usualByteCount) * 1000 - 1000).rounded(.up) / 10
      throw QuantizationError(
        "a budget of \(percent)% stores every layer in 16 bits (that takes \(share)%): there is nothing to choose")
    }
    let items = layers.map { layer in layer.options.map { Knapsack.Option(cost: $0.byteCount, loss: $0.predictedKL) } }
    guard let chosen = Knapsack.choose(items, budget: Int(limit) - otherByteCount) else {
      throw QuantizationError("no types fit \(Int(limit)) bytes")
    }
    for (index, option) in zip(layers.indices, chosen) { layers[index].chosen = layers[index].options[option].format }
  }

  /// The types by llama.cpp's names of the tensors, for ``GGUFExport``.
  public var formats: [String: StorageFormat] {
    Dictionary(uniqueKeysWithValues: layers.map { ($0.name, $0.chosen) })
  }

  /// With the types chosen.
  public var chosen: Prediction { prediction { $0.chosen } }

  /// With the types that the file's type gives.
  public var usual: Prediction { prediction { $0.usual } }

  private func prediction(_ format: (Layer) -> StorageFormat) -> Prediction {
    let options = layers.compactMap { layer in layer.options.first { $0.format == format(layer) } }
    return Prediction(
      byteCount: options.reduce(otherByteCount) { $0 + $1.byteCount },
      predictedKL: options.reduce(0) { $0 + $1.predictedKL })
  }
}
