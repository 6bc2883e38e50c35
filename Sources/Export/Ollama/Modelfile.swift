import ModelFiles
import Tokenization

/// Ollama's description of a model beside its GGUF: the template and the ends of turns, as the chat template has them.
public struct Modelfile: Sendable {
  /// The text of the file.
  public let text: String
  /// What Ollama will do otherwise than the chat template, each one line.
  public let remarks: [String]

  /// Describes an exported model.
  ///
  /// - Parameter gguf: The file's name, in the same folder.
  public init(_ export: GGUFExport, gguf: String) {
    var lines = ["FROM ./\(gguf)"]
    var remarks: [String] = []
    let tokenizer = export.tokenizer
    do {
      let shape = try TurnShape(of: tokenizer, leavesOutBOS: export.addsBOS)
      let template = shape.goTemplate
      guard let quoted = Self.quoted(template) else {
        throw TurnShape.Inexpressible(reason: "writes three quotation marks, which end a text in a Modelfile")
      }
      lines.append("TEMPLATE \(quoted)")
      if let system = shape.defaultSystem, !system.isEmpty, let quoted = Self.quoted(system) {
        lines.append("SYSTEM \(quoted)")
      }
      if shape.trimsContent {
        remarks.append("the chat template takes white space off the ends of messages, which Ollama's language cannot")
      }
      if shape.knowsTools {
        remarks.append("the chat template describes tools; the Modelfile's template leaves them out")
      }
      if shape.systemPlace == .nowhere {
        remarks.append("the chat template takes no system message; neither does Ollama's")
      }
    } catch let error as TurnShape.Inexpressible {
      remarks.append(
        tokenizer.chatTemplate == nil
          ? "the model has no chat template, so the Modelfile has none"
          : "the chat template \(error.reason): the Modelfile has no TEMPLATE, and Ollama takes its own guess")
    } catch {
      remarks.append("the chat template cannot be rendered (\(error)): the Modelfile has no TEMPLATE")
    }
    for id in tokenizer.endOfTurnTokenIDs {
      guard let token = tokenizer.token(id), !token.contains("\n"), !token.contains("\"") else { continue }
      lines.append("PARAMETER stop \"\(token)\"")
    }
    if let licence = export.card.licenceText ?? export.card.licence, let quoted = Self.quoted(licence) {
      lines.append("LICENSE \(quoted)")
    }
    text = Self.heading + remarks.map { "# \($0)\n" }.joined() + lines.joined(separator: "\n") + "\n"
    self.remarks = remarks
  }

  /// What a file of ours begins with.
  private static let heading = "# Made by swiftlet export\n"

  /// Throws where a file stands that is not of this kind, so that nobody's own Modelfile is lost.
  public static func requireReplaceable(_ path: String) throws(ModelFileError) {
    guard let file = try? MappedFile(path: path) else { return }
    let isOurs = withExtendedLifetime(file) { file.bytes.starts(with: heading.utf8) }
    if !isOurs { throw ModelFileError(path, "this exists already and is not swiftlet's; choose another --output") }
  }

  /// Writes the file, which appears whole or not at all.
  public func write(to path: String) throws(ModelFileError) { try writeAtomically(text, to: path) }

  /// A text between three quotation marks; `nil` for one that has three itself.
  private static func quoted(_ text: String) -> String? {
    text.contains("\"\"\"") || text.hasSuffix("\"") ? nil : "\"\"\"\(text)\"\"\""
  }
}
