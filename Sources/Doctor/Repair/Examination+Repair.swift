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

  /// The entries of a GGUF's metadata that change, with their new values.
  package var metadataChanges: [(key: String, value: GGUFValue)] {
    edits.compactMap { edit in
      switch edit {
      case .metadata(let key, let value): return (key, value)
      case .template(.metadata(let key), let edits):
        let source = patient.templates.first { $0.place == .metadata(key) }?.source ?? ""
        return (key, .string(TemplateEdit.apply(edits, to: source)))
      default: return nil
      }
    }
  }

  private func rewrite(_ file: GGUFFile, _ output: String) throws -> String {
    let changes = metadataChanges
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

  /// The files of a folder that repairs change, with their new contents.
  package func changedFiles() throws -> [String: [UInt8]] { try FolderContents(path, edits).changed }

  /// What a repair changes, each one line.
  package var repairs: [String] {
    findings.filter { $0.severity != .note && $0.isRepairable }.map { "\($0.id): \($0.repair)" }
  }

  // MARK: In memory

  /// What the tokenizer must be told for what spoils training and generation to be repaired; `nil` for nothing.
  var overrides: TokenizerOverrides? {
    guard findings.contains(where: \.isTreatable) else { return nil }
    var overrides = TokenizerOverrides()
    if findings.contains(where: { $0.id == "eos-not-end-of-turn" && $0.isRepairable }),
      let token = plan.tokens[.eos], let id = token.id.flatMap(Int32.init(exactly:))
    {
      overrides.specialTokens[SpecialRole.eos.tokenKey] = (token.content, id)
    }
    overrides.wholeTokens = plan.wholeTokens
    if overrides.specialTokens.isEmpty, plan.templateEdits.isEmpty, plan.wholeTokens.isEmpty { return nil }
    overrides.chatTemplates = repairedTemplates
    return overrides
  }

  /// What the tokenizer must be told for all that can be repaired to be repaired.
  package var allOverrides: TokenizerOverrides {
    var overrides = TokenizerOverrides()
    for (role, token) in plan.tokens {
      guard let id = token.id.flatMap(Int32.init(exactly:)) else { continue }
      overrides.specialTokens[role.tokenKey] = (token.content, id)
    }
    overrides.wholeTokens = plan.wholeTokens
    overrides.chatTemplates = repairedTemplates
    return overrides
  }

  /// The templates that can be parsed, as they are once repaired.
  private var repairedTemplates: ChatTemplates {
    var templates = ChatTemplates()
    for (index, template) in patient.templates.enumerated() {
      guard case .success(let parsed) = template.parsed else { continue }
      let source = plan.templateEdits[index].map { TemplateEdit.apply($0, to: template.source) }
      // What a repair makes was parsed when it was proved.
      templates[template.name] = source.flatMap { try? ChatTemplate(source: $0) } ?? parsed
    }
    return templates
  }

  /// The tokenizer files as they should be: each of the folder's, repaired where it has to be.
  ///
  /// Of a GGUF, which carries its tokenizer itself, none but a chat template that was given instead of its own.
  public func tokenizerFiles() throws -> [(name: String, bytes: [UInt8])] {
    var given: [(name: String, bytes: [UInt8])] = []
    if case .given? = patient.template?.place, let template = repairedTemplates[ChatTemplates.standardName] {
      given = [(ChatTemplateSource.standardFile, Array(template.source.utf8))]
    }
    guard case .folder = patient.kind else { return given }
    let changed = try FolderContents(path, edits).changed
    let files = [
      "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model",
      "vocab.json", "merges.txt",
    ]
    let templates = patient.templates.compactMap { template in
      if case .file(let name) = template.place { name } else { nil }
    }
    let names = files + templates
    return try given
      + names.compactMap { name in
        if let bytes = changed[name] { return (name, bytes) }
        guard access(path + "/" + name, R_OK) == 0 else { return nil }
        return (name, try MappedFile.contents(of: path + "/" + name))
      }
  }
}

extension Examination {
  /// Writes the tokenizer files as they should be into a folder that is there, such as an adapter's.
  public func writeTokenizerFiles(to folder: String) throws {
    try writeAtomically(tokenizerFiles(), into: folder)
  }
}
