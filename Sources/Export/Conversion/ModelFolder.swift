import Doctor
import JSONValues
import ModelFiles

/// A model's folder in Hugging Face's layout that is made from another model: what is said of it beside its weights.
package struct ModelFolder {
  /// The model that it is made from.
  let checkpoint: Checkpoint
  /// What repairs the tokenizer's files on the way.
  let examination: Examination
  /// The class that transformers loads it as.
  let architecture: String
  /// What most weights are stored as; `nil` as in the model.
  let type: StorageFormat?

  /// Describes a folder.
  package init(
    of checkpoint: Checkpoint, _ examination: Examination, architecture: String, type: StorageFormat?
  ) {
    self.checkpoint = checkpoint
    self.examination = examination
    self.architecture = architecture
    self.type = type
  }

  /// Writes the folder `output`, which must not be there or be empty, and gives back the names of the weights' files.
  ///
  /// It appears whole or not at all, and only when it opens as a model.
  ///
  /// - Parameters:
  ///   - tensors: What the weights' files will hold.
  ///   - weights: Writes them.
  ///   - finishing: Changes what `config.json` says, and adds files to the folder.
  package func write(
    to output: String, tensors: [SafetensorsEntry], weights: (ShardedSafetensorsWriter) throws -> Void,
    finishing: (_ configuration: inout JSONObject, _ folder: String) throws -> Void = { _, _ in }
  ) throws -> [String] {
    var fileNames: [String] = []
    try AtomicFolder.make(output) { folder in
      let carried = try CarriedFiles(of: checkpoint, examination)
      var json = try carried.model.json(as: architecture, original: carried.configuration, storedAs: type)
      let writer = try ShardedSafetensorsWriter(folder: folder, tensors: tensors)
      fileNames = writer.fileNames
      try writeAtomically(carried.files, into: folder)
      try weights(writer)
      try writer.finish()
      try finishing(&json, folder)
      try writeAtomically(JSONValue.object(json).serialized(pretty: true) + "\n", to: "\(folder)/config.json")
      // What cannot be opened again must not get the name.
      _ = try Checkpoint.open(path: folder)
    }
    return fileNames
  }
}

extension Sequence {
  /// Calls `body` for each element with a function that adds to a count, whose sum goes to `onProgress`.
  package func forEachCounted(
    _ onProgress: (_ sum: Int) throws -> Void, _ body: (Element, _ add: (Int) throws -> Void) throws -> Void
  ) throws {
    var sum = 0
    // Two closures that do not escape, one within the other.
    try withoutActuallyEscaping(onProgress) { onProgress in
      for element in self {
        try body(element) { count in
          sum += count
          try onProgress(sum)
        }
      }
    }
  }
}
