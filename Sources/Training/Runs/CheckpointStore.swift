import Glibc
import ModelFiles

/// The checkpoints of a run: `checkpoints/step-000100/` and so on, each published whole or not at all.
///
/// A checkpoint is written into a hidden folder, brought to the disk with a list of its files' checksums, and renamed. A
/// process killed at any moment leaves the published ones as they were. A published one is never changed.
public struct CheckpointStore: Sendable {
  /// A published checkpoint.
  public struct Entry: Sendable, Equatable {
    /// The step after which it was saved.
    public let step: Int
    /// Its folder.
    public let path: String
  }

  /// The moments of a save, for tests that end the process there.
  enum Moment: String, Sendable, CaseIterable { case written, listed, published, linked }

  /// The run's folder, which holds `checkpoints`, `latest` and `best`.
  public let runPath: String
  /// Checkpoints kept besides the best one; `nil` keeps all.
  public let limit: Int?
  var atMoment: (@Sendable (Moment) -> Void)?

  /// The checkpoints below a run's folder.
  public init(runPath: String, limit: Int? = nil) {
    self.runPath = runPath
    self.limit = limit.map { max(1, $0) }
  }

  private var folder: String { "\(runPath)/checkpoints" }

  /// Saves a checkpoint: `write` puts plain files into the folder that it is given.
  ///
  /// Where anything fails, nothing of the new checkpoint stays and the earlier ones are untouched. `byteCount` is what
  /// the files will need, compared with the free space first. Gives back the path of the published checkpoint.
  @discardableResult
  public func save(step: Int, byteCount: Int = 0, write: (_ folder: String) throws -> Void) throws -> String {
    let name = Self.name(ofStep: step)
    let (published, hidden) = ("\(folder)/\(name)", "\(folder)/.\(name).incomplete")
    try Folders.make(folder)
    try removeLeftovers()
    try checkFreeSpace(in: folder, for: published, byteCount: byteCount)
    if Folders.exists(published) { try setAsideIfDamaged(published, name) }
    do {
      try Folders.make(hidden)
      try write(hidden)
      atMoment?(.written)
      for file in Folders.names(in: hidden) { try Folders.synchronize("\(hidden)/\(file)") }
      try CheckpointManifest(step: step, folder: hidden).write(to: hidden)
      try Folders.synchronize(hidden)
      atMoment?(.listed)
      if rename(hidden, published) != 0 { throw RunError.system(published, "publish the checkpoint") }
    } catch {
      try? Folders.remove(hidden)
      throw error
    }
    atMoment?(.published)
    try Folders.synchronize(folder)
    try link("latest", toStep: step)
    atMoment?(.linked)
    try prune(keeping: step)
    return published
  }

  /// Points `best` at the checkpoint of a step; it is not removed as long as it is the best, the earlier one may be.
  public func markBest(step: Int) throws {
    guard Folders.isFolder(path(ofStep: step)) else {
      throw RunError(path(ofStep: step), "there is no such checkpoint to mark as the best")
    }
    try link("best", toStep: step)
    // Only now is the earlier best one of the others.
    try prune(keeping: step)
  }

  /// The step of the checkpoint that `best` points at.
  public var bestStep: Int? { Folders.target(ofLink: "\(runPath)/best").flatMap(Self.step(ofPath:)) }

  /// The published checkpoints by step, whole or damaged.
  public var entries: [Entry] {
    Folders.names(in: folder)
      .compactMap { name in Self.step(ofName: name).map { Entry(step: $0, path: "\(folder)/\(name)") } }
      .sorted { $0.step < $1.step }
  }

  /// The latest whole checkpoint, and why later ones were passed over.
  public func latest() -> (entry: Entry?, damaged: [String]) {
    var damaged: [String] = []
    for entry in entries.reversed() {
      do {
        try verify(entry)
        return (entry, damaged)
      } catch {
        damaged.append("\(error)")
      }
    }
    return (nil, damaged)
  }

  /// Compares every file of a checkpoint with its size and checksum when it was saved.
  public func verify(_ entry: Entry) throws {
    let manifest = try CheckpointManifest(folder: entry.path)
    if manifest.step != entry.step {
      throw RunError(entry.path, "the checkpoint is damaged: its manifest speaks of step \(manifest.step)")
    }
    try manifest.verify(entry.path)
  }

  /// Removes what killed saves and removals left behind.
  ///
  /// Only the process that holds the run's folder may do this.
  public func removeLeftovers() throws {
    for name in Folders.names(in: folder) where name.hasPrefix(".step-") {
      try Folders.remove("\(folder)/\(name)")
    }
    for name in [".latest.incomplete", ".best.incomplete"] { try Folders.remove("\(runPath)/\(name)") }
  }

  private func path(ofStep step: Int) -> String { "\(folder)/\(Self.name(ofStep: step))" }

  private func link(_ name: String, toStep step: Int) throws {
    try Folders.link("\(runPath)/\(name)", to: "checkpoints/\(Self.name(ofStep: step))")
    try Folders.synchronize(runPath)
  }

  /// A damaged checkpoint gives way to the one that the resumed run makes again; a whole one does not.
  private func setAsideIfDamaged(_ published: String, _ name: String) throws {
    if let manifest = try? CheckpointManifest(folder: published), (try? manifest.verify(published)) != nil {
      throw RunError(published, "this checkpoint exists already; choose another --output or use --resume")
    }
    try hideAndRemove(published, name)
  }

  /// Removes the oldest checkpoints beyond the limit; the best one and `newest` stay.
  func prune(keeping newest: Int) throws {
    guard let limit else { return }
    let best = bestStep
    let steps = entries.map(\.step).filter { $0 != best }
    for step in steps.dropLast(limit) where step != newest {
      try hideAndRemove(path(ofStep: step), Self.name(ofStep: step))
    }
  }

  /// Renames first, so that a removal cut short leaves nothing that looks like a checkpoint.
  private func hideAndRemove(_ published: String, _ name: String) throws {
    let hidden = "\(folder)/.\(name).removed"
    try Folders.remove(hidden)
    if rename(published, hidden) != 0 { throw RunError.system(published, "remove") }
    try Folders.remove(hidden)
  }

  static func name(ofStep step: Int) -> String {
    let digits = String(step)
    return "step-" + String(repeating: "0", count: max(0, 6 - digits.count)) + digits
  }

  static func step(ofName name: String) -> Int? {
    guard name.hasPrefix("step-"), let step = Int(name.dropFirst(5)), step >= 0, Self.name(ofStep: step) == name else {
      return nil
    }
    return step
  }

  static func step(ofPath path: String) -> Int? { path.split(separator: "/").last.flatMap { step(ofName: String($0)) } }
}
