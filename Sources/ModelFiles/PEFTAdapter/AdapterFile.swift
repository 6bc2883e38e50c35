import Glibc
import JSONValues

/// A LoRA adapter in PEFT's files: `adapter_config.json` and `adapter_model.safetensors`.
///
/// Loading checks everything before a number is read: the configuration, every tensor's name and shape, that no pair is
/// incomplete and no listed module is missing.
public struct AdapterFile: Sendable {
  /// The two matrices of one projection: y += scale · B · A · x.
  public struct Pair: Sendable {
    /// The block, counted from 0.
    public let layer: Int
    /// The projection: `q_proj`, …, `down_proj`.
    public let projection: String
    /// A, `[rank, input width]`.
    public let a: StoredTensor
    /// B, `[output width, rank]`.
    public let b: StoredTensor
    /// What B · A · x is multiplied with.
    public let scale: Double
    /// DoRA's magnitudes, `[output width]`; nil without.
    public let magnitude: StoredTensor?

    /// Rows of A, columns of B.
    public var rank: Int { a.shape.first ?? 0 }
  }

  /// The folder.
  public let folder: String
  /// What `adapter_config.json` says.
  public let configuration: AdapterConfiguration
  /// The pairs by layer, then in the order of the projections in a block.
  public let pairs: [Pair]
  /// The model that it was opened for.
  public let model: ModelConfiguration?

  /// The name of the weights' file.
  public static let fileName = "adapter_model.safetensors"

  /// The projections of a block in their order, each with the part of the block that holds it.
  public static let projections: [(name: String, part: String)] = TargetModule.allCases.map { ($0.rawValue, $0.parent) }

  /// The name of a projection's A, or of its B, in PEFT's files; `nil` for a name that is no projection.
  public static func tensorName(layer: Int, projection: String, isB: Bool) -> String? {
    TargetModule(rawValue: projection).map { tensorName(layer: layer, module: $0, isB: isB) }
  }

  /// The name of a module's A, or of its B, in PEFT's files.
  public static func tensorName(layer: Int, module: TargetModule, isB: Bool) -> String {
    tensorName(path: module.path(layer: layer), isB: isB)
  }

  /// The name of the A, or the B, of the matrix at a path such as "model.layers.0.mlp.gate_up_proj".
  package static func tensorName(path: String, isB: Bool) -> String {
    "\(prefix)\(path).lora_\(isB ? "B" : "A").weight"
  }

  /// The name of a module's magnitudes in PEFT's files.
  public static func magnitudeName(layer: Int, module: TargetModule) -> String {
    magnitudeName(path: module.path(layer: layer))
  }

  /// The name of the magnitudes of the matrix at a path such as "model.layers.0.mlp.gate_up_proj".
  package static func magnitudeName(path: String) -> String { "\(prefix)\(path).lora_magnitude_vector" }

  static let prefix = "base_model.model."

  /// Writes an adapter that PEFT loads; each of the two files appears whole or not at all.
  ///
  /// The names are those of `tensorName`, the values fp32. The folder is made where it is missing.
  public static func save(
    to folder: String, configuration: AdapterConfiguration,
    tensors: [(name: String, shape: [Int], values: UnsafeBufferPointer<Float>)]
  ) throws(ModelFileError) {
    if mkdir(folder, 0o777) != 0, errno != EEXIST { throw .system(folder, "make the folder") }
    let path = "\(folder)/\(fileName)"
    let sorted = tensors.sorted { $0.name < $1.name }
    let writer = try SafetensorsWriter(
      path: path, tensors: sorted.map { SafetensorsEntry($0.name, shape: $0.shape, format: .float32) })
    for tensor in sorted { try writer.append(tensor.values, to: tensor.name) }
    try writer.finish()
    try writeAtomically(
      configuration.json.serialized(pretty: true), to: "\(folder)/\(AdapterConfiguration.fileName)")
  }

  /// Opens the adapter of a folder; with `model`, shapes and layers are compared with the model's.
  ///
  /// An adapter of Phi-3's fused matrices becomes pairs of their parts: each has the fused A and its own rows of B. Where
  /// to cut says the model, without which such an adapter is refused.
  public static func load(folder: String, for model: ModelConfiguration? = nil) throws(ModelFileError) -> AdapterFile {
    var folder = folder
    while folder.utf8.count > 1, folder.hasSuffix("/") { folder.removeLast() }
    let path = "\(folder)/\(fileName)"
    let configuration = try AdapterConfiguration(folder: folder)
    if access(path, F_OK) != 0, access("\(folder)/adapter_model.bin", F_OK) == 0 {
      throw ModelFileError(folder, "this adapter is pickled (adapter_model.bin); save it as safetensors first")
    }
    let file = try SafetensorsFile(path: path)
    var reader = AdapterReader(path: path, configuration, model: model)
    for tensor in file.tensors { try reader.add(tensor) }
    let pairs = try reader.pairs()
    if let odd = pairs.first(where: { ($0.magnitude != nil) != configuration.usesDoRA }) {
      throw ModelFileError(
        path,
        "`use_dora` is \(configuration.usesDoRA), but layer \(odd.layer)'s \(odd.projection) has "
          + (odd.magnitude == nil ? "no magnitudes" : "magnitudes"))
    }
    try reader.requireListed()
    return AdapterFile(folder: folder, configuration: configuration, pairs: pairs, model: model)
  }
}

extension ModelConfiguration {
  /// Input and output width of a projection; `nil` for a name that is none.
  public func projectionShape(_ projection: String) -> (input: Int, output: Int)? {
    TargetModule(rawValue: projection).map { size(of: $0) }.map { (input: $0.inputs, output: $0.outputs) }
  }
}
