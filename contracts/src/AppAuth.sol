// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Governed} from "./Governed.sol";
import {IAppAuthBasicManagement} from "./IAppAuthBasicManagement.sol";
import {IAppAuthBatches} from "./IAppAuthBatches.sol";

/// @title One application's allowlist
/// @notice Which compose files may run as this application, and on which machines. The application's id is the address
/// of this contract's proxy.
/// @dev ABI and storage layout are those of dstack's application contract. The operating system image and the
/// registration are KmsAuth's concern: ask there for the whole verdict. Beyond dstack's, there are batches and a pause.
contract AppAuth is Governed, IAppAuthBasicManagement, IAppAuthBatches {
    /// @notice The compose hashes that may run.
    mapping(bytes32 composeHash => bool allowed) public allowedComposeHashes;

    /// @dev Set once by `disableUpgrades` or at creation, never cleared.
    bool private _upgradesDisabled;

    /// @notice Whether the machine does not matter.
    bool public allowAnyDevice;

    /// @notice The machines that may host the application while `allowAnyDevice` is false.
    mapping(bytes32 deviceId => bool allowed) public allowedDeviceIds;

    /// @notice Whether only guests on a platform in good standing may run.
    bool public requireTcbUpToDate;

    /// @dev Room for later variables, which must be added after all others and taken from here.
    uint256[49] private __gap;

    /// @notice The implementation can never be replaced again.
    event UpgradesDisabled();

    /// @notice Whether the machine matters has been set.
    /// @param allowAny True if it does not.
    event AllowAnyDeviceSet(bool allowAny);

    /// @notice Whether the platform's standing matters has been set.
    /// @param requireUpToDate True if it does.
    event RequireTcbUpToDateSet(bool requireUpToDate);

    /// @notice Sets up a new proxy, with no demand on the platform's standing.
    /// @param initialOwner Who governs the application; not zero.
    /// @param upgradesDisabled Whether the implementation is final from the start.
    /// @param anyDevice Whether the machine does not matter.
    /// @param deviceId A first machine to allow, or zero for none.
    /// @param composeHash A first compose hash to allow, or zero for none.
    function initialize(
        address initialOwner,
        bool upgradesDisabled,
        bool anyDevice,
        bytes32 deviceId,
        bytes32 composeHash
    ) external initializer {
        _setUp(initialOwner, upgradesDisabled, false, anyDevice, deviceId, composeHash);
    }

    /// @notice Sets up a new proxy.
    /// @param initialOwner Who governs the application; not zero.
    /// @param upgradesDisabled Whether the implementation is final from the start.
    /// @param upToDate Whether only guests on a platform in good standing may run.
    /// @param anyDevice Whether the machine does not matter.
    /// @param deviceId A first machine to allow, or zero for none.
    /// @param composeHash A first compose hash to allow, or zero for none.
    function initialize(
        address initialOwner,
        bool upgradesDisabled,
        bool upToDate,
        bool anyDevice,
        bytes32 deviceId,
        bytes32 composeHash
    ) external initializer {
        _setUp(initialOwner, upgradesDisabled, upToDate, anyDevice, deviceId, composeHash);
    }

    /// @inheritdoc IAppAuthBasicManagement
    function addComposeHash(bytes32 composeHash) external onlyOwner {
        _addComposeHash(composeHash);
    }

    /// @inheritdoc IAppAuthBatches
    function addComposeHashes(bytes32[] calldata composeHashes) external onlyOwner {
        for (uint256 i = 0; i < composeHashes.length; i++) {
            _addComposeHash(composeHashes[i]);
        }
    }

    /// @inheritdoc IAppAuthBasicManagement
    function removeComposeHash(bytes32 composeHash) external onlyOwner {
        _removeComposeHash(composeHash);
    }

    /// @inheritdoc IAppAuthBatches
    function removeComposeHashes(bytes32[] calldata composeHashes) external onlyOwner {
        for (uint256 i = 0; i < composeHashes.length; i++) {
            _removeComposeHash(composeHashes[i]);
        }
    }

    /// @inheritdoc IAppAuthBasicManagement
    function addDevice(bytes32 deviceId) external onlyOwner {
        _addDevice(deviceId);
    }

    /// @inheritdoc IAppAuthBatches
    function addDevices(bytes32[] calldata deviceIds) external onlyOwner {
        for (uint256 i = 0; i < deviceIds.length; i++) {
            _addDevice(deviceIds[i]);
        }
    }

    /// @inheritdoc IAppAuthBasicManagement
    function removeDevice(bytes32 deviceId) external onlyOwner {
        _removeDevice(deviceId);
    }

    /// @inheritdoc IAppAuthBatches
    function removeDevices(bytes32[] calldata deviceIds) external onlyOwner {
        for (uint256 i = 0; i < deviceIds.length; i++) {
            _removeDevice(deviceIds[i]);
        }
    }

    /// @notice Sets whether the machine does not matter.
    /// @param anyDevice True to allow every machine, false to allow those in `allowedDeviceIds`.
    function setAllowAnyDevice(bool anyDevice) external onlyOwner {
        _setAllowAnyDevice(anyDevice);
    }

    /// @notice Sets whether only guests on a platform in good standing may run.
    /// @param upToDate True to refuse every TCB status but "UpToDate".
    function setRequireTcbUpToDate(bool upToDate) external onlyOwner {
        _setRequireTcbUpToDate(upToDate);
    }

    /// @notice Makes the present implementation final. There is no way back.
    function disableUpgrades() external onlyOwner {
        _disableUpgrades();
    }

    /// @notice Says whether the described guest may run as this application. Does not look at the application id, the
    /// instance, the operating system image or the measurements.
    /// @param bootInfo What the guest's attestation says.
    /// @return isAllowed True only if every rule is met.
    /// @return reason Why not, in one sentence; empty when allowed.
    function isAppAllowed(AppBootInfo calldata bootInfo) external view returns (bool isAllowed, string memory reason) {
        if (paused()) return (false, "App is paused");
        if (requireTcbUpToDate && !_isUpToDate(bootInfo.tcbStatus)) return (false, "TCB status is not up to date");
        if (!allowedComposeHashes[bootInfo.composeHash]) return (false, "Compose hash not allowed");
        if (!allowAnyDevice && !allowedDeviceIds[bootInfo.deviceId]) return (false, "Device not allowed");
        return (true, "");
    }

    /// @notice The generation of this ABI: 2 since the platform's standing can be demanded.
    /// @return The generation.
    function version() external pure returns (uint256) {
        return 2;
    }

    /// @inheritdoc Governed
    function supportsInterface(bytes4 interfaceId) public view override returns (bool) {
        return interfaceId == type(IAppAuthBasicManagement).interfaceId
            || interfaceId == type(IAppAuthBatches).interfaceId || super.supportsInterface(interfaceId);
    }

    /// @dev Refuses even the owner once upgrades are disabled.
    function _authorizeUpgrade(address implementation) internal override {
        super._authorizeUpgrade(implementation);
        require(!_upgradesDisabled, "Upgrades are permanently disabled");
    }

    /// @dev The initial rules are announced like later ones, so that the log alone tells the whole policy.
    function _setUp(
        address initialOwner,
        bool upgradesDisabled,
        bool upToDate,
        bool anyDevice,
        bytes32 deviceId,
        bytes32 composeHash
    ) private {
        require(initialOwner != address(0), "invalid owner address");
        __Ownable_init(initialOwner);
        if (upgradesDisabled) _disableUpgrades();
        if (upToDate) _setRequireTcbUpToDate(true);
        if (anyDevice) _setAllowAnyDevice(true);
        if (deviceId != bytes32(0)) _addDevice(deviceId);
        if (composeHash != bytes32(0)) _addComposeHash(composeHash);
    }

    function _addComposeHash(bytes32 composeHash) private {
        require(composeHash != bytes32(0), "invalid compose hash");
        allowedComposeHashes[composeHash] = true;
        emit ComposeHashAdded(composeHash);
        _policyChanged("compose-hash", composeHash, true);
    }

    function _removeComposeHash(bytes32 composeHash) private {
        allowedComposeHashes[composeHash] = false;
        emit ComposeHashRemoved(composeHash);
        _policyChanged("compose-hash", composeHash, false);
    }

    function _addDevice(bytes32 deviceId) private {
        require(deviceId != bytes32(0), "invalid device ID");
        allowedDeviceIds[deviceId] = true;
        emit DeviceAdded(deviceId);
        _policyChanged("device", deviceId, true);
    }

    function _removeDevice(bytes32 deviceId) private {
        allowedDeviceIds[deviceId] = false;
        emit DeviceRemoved(deviceId);
        _policyChanged("device", deviceId, false);
    }

    function _setAllowAnyDevice(bool anyDevice) private {
        allowAnyDevice = anyDevice;
        emit AllowAnyDeviceSet(anyDevice);
        _policyChanged("allow-any-device", bytes32(0), anyDevice);
    }

    function _setRequireTcbUpToDate(bool upToDate) private {
        requireTcbUpToDate = upToDate;
        emit RequireTcbUpToDateSet(upToDate);
        _policyChanged("require-tcb-up-to-date", bytes32(0), upToDate);
    }

    function _disableUpgrades() private {
        _upgradesDisabled = true;
        emit UpgradesDisabled();
        _policyChanged("upgrades-disabled", bytes32(0), true);
    }
}
