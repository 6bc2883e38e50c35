import CPUKernels
import ModelFiles

/// The tensors of a model with adapters added, under Hugging Face's names: what merged models are written from, in
/// whatever format.
///
/// ```swift
/// let checkpoint = try Checkpoint.open(path: "phi-4")
/// let adapter = try AdapterFile.load(folder: "run", for: checkpoint.configuration)
/// for tensor in try MergedTensors(checkpoint, adapters: [adapter]).tensors {
///   try tensor.forEachPiece { rows, values in … }
/// }
/// ```
///
/// Nothing is read before rows are asked for, and no more than those rows and one tensor's adapters is kept.
public struct MergedTensors: Sendable {
  /// The model.
  public let checkpoint: Checkpoint
  /// How the projections of a block are put together.
  public let layout: Conversion.Layout
  /// The tensors in the order of the computation, those that the model's class does not know after them.
  public let tensors: [MergedTensor]

  /// Checks that every tensor of the model is there and has its shape, and that the adapters fit.
  ///
  /// - Parameter layout: `.phi3` puts queries, keys and values into one tensor, gate and up into another.
  public init(
    _ checkpoint: Checkpoint, adapters: [AdapterFile] = [], layout: Conversion.Layout = .llama
  ) throws(ModelFileError) {
    self.checkpoint = checkpoint
    self.layout = layout
    var additions = try Self.additions(adapters, to: checkpoint.configuration)
    var tensors: [MergedTensor] = []
    var used: Set<String> = []
    func part(_ name: String, _ shape: [Int]) throws(ModelFileError) -> MergedTensor.Part {
      let stored = try checkpoint.tensor(name, shape: shape)
      guard stored.format.isDecodable else {
        throw ModelFileError(
          stored.file.path, "tensor '\(name)' is stored as \(stored.format.name), which no weight of this model can be")
      }
      return MergedTensor.Part(stored: stored, additions: additions.removeValue(forKey: name) ?? [])
    }
    for (name, shape) in checkpoint.configuration.tensors {
      used.insert(name)
      guard layout == .phi3, let (fused, modules) = FusedTensors.place(of: name) else {
        tensors.append(MergedTensor(name: name, shape: shape, parts: [try part(name, shape)]))
        continue
      }
      // The first part stands for all of them.
      guard name.hasSuffix(modules[0].rawValue + ".weight") else { continue }
      var parts: [MergedTensor.Part] = []
      var rows = 0
      for module in modules {
        let (outputs, inputs) = checkpoint.configuration.size(of: module)
        parts.append(try part(name.replacing(modules[0].rawValue, with: module.rawValue), [outputs, inputs]))
        rows += outputs
      }
      tensors.append(MergedTensor(name: fused, shape: [rows] + shape.dropFirst(), parts: parts))
    }
    // What a GGUF has besides are tables that the configuration expresses.
    if case .folder = checkpoint.tokenizerSource {
      for name in checkpoint.tensorNames where !used.contains(name) {
        let stored = try checkpoint.tensor(name)
        tensors.append(
          MergedTensor(name: name, shape: stored.shape, parts: [MergedTensor.Part(stored: stored, additions: [])]))
      }
    }
    self.tensors = tensors
  }

  /// The pairs of all adapters by the tensor that they change.
  private static func additions(
    _ adapters: [AdapterFile], to model: ModelConfiguration
  ) throws(ModelFileError) -> [String: [AdapterFile.Pair]] {
    var additions: [String: [AdapterFile.Pair]] = [:]
    for adapter in adapters {
      for pair in adapter.pairs {
        guard let module = TargetModule(rawValue: pair.projection), pair.layer < model.layerCount else {
          throw ModelFileError(adapter.folder, "the model has no \(pair.projection) in a layer \(pair.layer)")
        }
        let (outputs, inputs) = model.size(of: module)
        guard pair.a.shape == [pair.rank, inputs], pair.b.shape == [outputs, pair.rank],
          (pair.magnitude?.count ?? outputs) == outputs
        else {
          throw ModelFileError(
            adapter.folder,
            "\(module.path(layer: pair.layer)) is \(outputs) by \(inputs) in the model, the adapter is made for "
              + "\(pair.b.shape.first ?? 0) by \(pair.a.shape.last ?? 0)")
        }
        additions[module.path(layer: pair.layer) + ".weight", default: []].append(pair)
      }
    }
    return additions
  }
}

extension Checkpoint {
  /// ‖W_o‖ of every row of a matrix.
  func rowNorms(of name: String) throws -> [Float] {
    let stored = try tensor(name)
    let matrix = MergedTensor(
      name: name, shape: stored.shape, parts: [MergedTensor.Part(stored: stored, additions: [])])
    var norms: [Float] = []
    try matrix.forEachPiece { rows, values in
      var some = [Float](repeating: 0, count: rows.count)
      sl_row_norms(Int64(rows.count), Int64(matrix.rowLength), values.baseAddress, &some)
      norms += some
    }
    return norms
  }
}
