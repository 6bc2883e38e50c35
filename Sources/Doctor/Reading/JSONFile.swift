import Glibc
import JSONValues
import ModelFiles

/// One of a model folder's JSON files.
struct JSONFile: Sendable {
  /// Its name in the folder.
  let name: String
  /// What it holds.
  let bytes: [UInt8]
  /// What that means.
  let value: JSONValue

  /// Reads a file; `nil` when there is none.
  ///
  /// What is wrong with it goes to `findings`.
  init?(_ name: String, in folder: String, _ findings: inout [Finding]) {
    let path = folder + "/" + name
    guard access(path, F_OK) == 0 else { return nil }
    func unreadable(_ reason: String) -> Finding {
      Finding(
        "file-unreadable", .error, "\(name) cannot be read, so that nothing it says takes effect.",
        evidence: "\(name): \(reason)", repair: "Fetch the file again, or mend it at that place.")
    }
    do throws(ModelFileError) {
      bytes = try MappedFile.contents(of: path)
    } catch {
      findings.append(unreadable(error.message))
      return nil
    }
    do throws(JSONError) {
      value = try JSONValue.parse(bytes)
    } catch {
      findings.append(unreadable(error.description))
      return nil
    }
    guard value.object != nil else {
      findings.append(unreadable("the file must hold a JSON object, not \(value.kind)"))
      return nil
    }
    do throws(JSONError) {
      _ = try JSONValue.parse(bytes, options: JSONParsingOptions(refusesDuplicateKeys: true))
    } catch {
      findings.append(
        Finding(
          "duplicate-key", .warning,
          "A key of \(name) appears twice; programs differ in which of the two they believe.",
          evidence: "\(name): \(error)", repair: "Remove the one that is not meant."))
    }
    self.name = name
  }
}
