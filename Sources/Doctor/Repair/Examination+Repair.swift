import Glibc
import JSONValues
import ModelFiles
import Tokenization

extension Examination {
  /// Refuses a place where ``repair(into:)`` must not write: one that is in use, or the model's own folder.
  public func requireUsable(output: String) throws {
    if case .gguf = patient.kind, output.hasSuffix(".gguf") {
      if access(output, F_OK) == 0 { throw ModelFileError(output, "this exists already; choose another --output") }
    } else if case .folder = patient.kind {
      try FolderCopy.requireUsable(output, copyOf: path)
    } else {
      try FolderCopy.requireUsable(output)
    }
  }

  /// Writes the model with everything repaired that can be; what is not repaired stays byte for byte.
  ///
  /// Of a folder, large files are linked where the file system can and copied elsewhere. The folder appears whole or not
  /// at all. Throws a `ModelFileError`.
  ///
  /// - Parameter output: A folder that is not there yet or is empty; for a GGUF also the name of the new `.gguf` file.
  /// - Returns: The repaired model's path.
  @discardableResult
  public func repair(into output: String) throws -> String {
    try requireUsable(output: output)
    switch patient.kind {
    case .folder:
      let contents = try FolderContents(path, edits)
      try FolderCopy.copy(path, to: output, replacing: contents.changed)
      return output
    case .gguf(let file): return try rewrite(file, output)
    }
  }

  private func rewrite(_ file: GGUFFile, _ output: String) throws -> String {
    var changes: [(key: String, value: GGUFValue)] = []
    for edit in edits {
      switch edit {
      case .metadata(let key, let value): changes.append((key, value))
      case .template(.metadata(let key), let edits):
        let source = patient.templates.first { $0.place == .metadata(key) }?.source ?? ""
        changes.append((key, .string(TemplateEdit.apply(edits, to: source))))
      default: break
      }
    }
    let name = file.path.split(separator: "/").last.map(String.init) ?? "model.gguf"
    if output.hasSuffix(".gguf") {
      try GGUFRewriter.write(file, changing: changes, to: output)
      return output
    }
    try FolderCopy.make(output) { (folder) throws(ModelFileError) in
      try GGUFRewriter.write(file, changing: changes, to: folder + "/" + name)
    }
    return output + "/" + name
  }

  // MARK: In memory

  /// What the tokenizer must be told for what spoils training and generation to be repaired; `nil` for nothing.
  var overrides: TokenizerOverrides? {
    guard findings.contains(where: \.isTreatable) else { return nil }
    var overrides = TokenizerOverrides()
    var isEmpty = true
    if findings.contains(where: { $0.id == "eos-not-end-of-turn" && $0.isRepairable }),
      let token = plan.tokens[.eos], let id = token.id.flatMap(Int32.init(exactly:))
    {
      overrides.specialTokens[SpecialRole.eos.tokenKey] = (token.content, id)
      isEmpty = false
    }
    for (index, edits) in plan.templateEdits {
      let template = patient.templates[index]
      let source = TemplateEdit.apply(edits, to: template.source)
      switch template.name {
      case "default": overrides.chatTemplate = source
      case "tool_use": overrides.toolChatTemplate = source
      default: continue
      }
      isEmpty = false
    }
    return isEmpty ? nil : overrides
  }

  /// The tokenizer files as they should be: each of the folder's, repaired where it has to be.
  ///
  /// None for a GGUF, which carries its tokenizer itself.
  public func tokenizerFiles() throws -> [(name: String, bytes: [UInt8])] {
    guard case .folder = patient.kind else { return [] }
    let changed = try FolderContents(path, edits).changed
    let names = [
      "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
      "tokenizer.model", "vocab.json", "merges.txt",
    ]
    return try names.compactMap { name in
      if let bytes = changed[name] { return (name, bytes) }
      guard access(path + "/" + name, R_OK) == 0 else { return nil }
      return (name, try MappedFile.contents(of: path + "/" + name))
    }
  }
}

extension Examination {
  /// Writes the tokenizer files as they should be into a folder that is there, such as an adapter's.
  public func writeTokenizerFiles(to folder: String) throws {
    for (name, bytes) in try tokenizerFiles() { try writeAtomically(bytes, to: folder + "/" + name) }
  }
}
