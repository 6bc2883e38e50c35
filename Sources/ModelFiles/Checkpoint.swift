import Glibc
import JSONValues

/// A model on disk, be it a Hugging Face folder or a GGUF; its tensors have Hugging Face's names either way.
///
/// Opening reads headers only. The rows of a GGUF's queries and keys come out in Hugging Face's order. What Phi-3 keeps in
/// one matrix appears as the several that a Llama has: everything above sees one layout.
public final class Checkpoint: Sendable {
  /// Where the tokenizer is found.
  public enum TokenizerSource: Sendable {
    /// In the files of a Hugging Face folder.
    case folder(String)
    /// In the metadata of a GGUF.
    case gguf(GGUFFile)
  }

  /// The folder or file that was opened.
  public let path: String
  /// The shape of the model.
  public let configuration: ModelConfiguration
  /// Where the tokenizer is found.
  public let tokenizerSource: TokenizerSource
  /// The names of all tensors; of a GGUF in the order of the file.
  public let tensorNames: [String]
  private let tensors: [String: StoredTensor]

  /// Opens a folder with `config.json` and safetensors, or a `.gguf` file.
  public static func open(path: String) throws(ModelFileError) -> Checkpoint {
    var status = stat()
    if stat(path, &status) != 0 { throw .system(path, "open") }
    if status.st_mode & S_IFMT == S_IFDIR { return try Checkpoint(folder: path) }
    if path.hasSuffix(".safetensors") || path.hasSuffix("config.json") {
      throw ModelFileError(path, "give the model's folder, not a file in it")
    }
    return try Checkpoint(gguf: GGUFFile(path: path))
  }

  private init(folder: String) throws(ModelFileError) {
    let configurationPath = folder + "/config.json"
    if access(configurationPath, F_OK) != 0 {
      if access(folder + "/adapter_config.json", F_OK) == 0 {
        throw ModelFileError(
          folder, "this folder holds an adapter; give the model it was made for, and it as the adapter")
      }
      throw ModelFileError(folder, "this is no model: there is no config.json here")
    }
    let generationPath = folder + "/generation_config.json"
    let generation = access(generationPath, F_OK) == 0 ? try readJSON(generationPath) : nil
    configuration = try ModelConfiguration(
      json: readJSON(configurationPath), path: configurationPath, generation: generation, generationPath: generationPath
    )
    let weights = try SafetensorsCheckpoint(folder: folder)
    path = folder
    tokenizerSource = .folder(folder)
    let whole = try BitsAndBytesTensors.gather(weights.tensorNames.compactMap { weights.tensor($0) })
    let apart = try FusedTensors.split(whole, configuration, path: folder)
    tensorNames = apart.map(\.name)
    tensors = Dictionary(apart.map { ($0.name, $0) }) { $1 }
  }

  /// Gives the tensors of a GGUF their other names.
  init(gguf: GGUFFile) throws(ModelFileError) {
    let configuration = try ModelConfiguration(gguf: gguf)
    var renamed: [StoredTensor] = []
    var tensors: [String: StoredTensor] = [:]
    for stored in gguf.tensors {
      let fusesGate = configuration.architecture == "Phi3ForCausalLM" && gguf.tensor("blk.0.ffn_gate.weight") == nil
      let name = GGUFTensorNames.huggingFace(stored.name, fusesGate: fusesGate) ?? stored.name
      let heads = GGUFTensorNames.permutedHeads(stored.name, configuration)
      let rows = stored.shape.count > 1 ? stored.rowCount : stored.rowLength
      if heads > 0, rows % (2 * heads) != 0 {
        throw ModelFileError(
          gguf.path, "tensor \(quoted(stored.name)) has \(rows) rows, which \(heads) heads cannot share")
      }
      let tensor = StoredTensor(
        name: name, shape: stored.shape, format: stored.format, file: stored.file, range: stored.range,
        pairing: heads > 0 ? NeighbourPairing(heads: heads, rotated: configuration.rotaryDimension) : nil)
      if tensors.updateValue(tensor, forKey: name) != nil {
        throw ModelFileError(gguf.path, "tensor \(quoted(name)) appears twice")
      }
      renamed.append(tensor)
    }
    let apart = try FusedTensors.split(renamed, configuration, path: gguf.path)
    path = gguf.path
    self.configuration = configuration
    tokenizerSource = .gguf(gguf)
    tensorNames = apart.map(\.name)
    self.tensors = Dictionary(apart.map { ($0.name, $0) }) { $1 }
  }

  /// Bytes of the embedding's rows as they are stored, which a process holds once it has read them all.
  public var embeddingByteCount: Int { tensors["model.embed_tokens.weight"]?.range.count ?? 0 }

  /// Whether there is a tensor of a name.
  public func contains(_ name: String) -> Bool { tensors[name] != nil }

  /// The tensor of a name; throws when it is missing.
  public func tensor(_ name: String) throws(ModelFileError) -> StoredTensor {
    guard let tensor = tensors[name] else { throw ModelFileError(path, "tensor \(quoted(name)) is missing") }
    return tensor
  }

  /// The tensor of a name; throws when it is missing or has another shape.
  public func tensor(_ name: String, shape: [Int]) throws(ModelFileError) -> StoredTensor {
    let tensor = try tensor(name)
    if tensor.shape != shape {
      throw ModelFileError(
        tensor.file.path, "tensor \(quoted(name)) has the shape \(tensor.shape), \(shape) was expected")
    }
    return tensor
  }
}
