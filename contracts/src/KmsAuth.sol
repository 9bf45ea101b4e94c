// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC1967Proxy} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";
import {Governed} from "./Governed.sol";
import {IAppAuth} from "./IAppAuth.sol";
import {IKmsAuthBatches} from "./IKmsAuthBatches.sol";
import {IKmsAuthManagement} from "./IKmsAuthManagement.sol";

/// @title The registry of applications and the deployment's own allowlists
/// @notice The one address to ask whether a guest may run: it checks the registration and the operating system image,
/// then asks the application's own contract. It also says which key management servers may run.
/// @dev ABI and storage layout are those of dstack's KMS contract. Beyond them, there are deregistration, batches and a
/// pause.
contract KmsAuth is Governed, IKmsAuthManagement, IKmsAuthBatches {
    /// @notice How guests recognise the key management service.
    struct KmsInfo {
        /// @notice The root public key of application keys, on curve secp256k1.
        bytes k256Pubkey;
        /// @notice The public key of the certificate authority.
        bytes caPubkey;
        /// @notice The quote taken when the keys were made.
        bytes quote;
        /// @notice The event log that belongs to the quote.
        bytes eventlog;
    }

    /// @notice How guests recognise the key management service.
    KmsInfo public kmsInfo;

    /// @notice The application id of the trusted gateway, in the form that guests compare.
    string public gatewayAppId;

    /// @notice The applications known here. Registration is open to all and confers nothing by itself.
    mapping(address appId => bool registered) public registeredApps;

    /// @notice The aggregated measurements that a key management server may have.
    mapping(bytes32 mrAggregated => bool allowed) public kmsAllowedAggregatedMrs;

    /// @notice The machines that may host a key management server.
    mapping(bytes32 deviceId => bool allowed) public kmsAllowedDeviceIds;

    /// @notice The operating system images that any guest may run.
    mapping(bytes32 osImageHash => bool allowed) public allowedOsImages;

    /// @notice The application contract that `deployAndRegisterApp` puts behind new proxies; zero turns it off.
    address public appImplementation;

    /// @inheritdoc IKmsAuthManagement
    mapping(address appId => bool deregistered) public deregisteredApps;

    /// @dev Room for later variables, which must be added after all others and taken from here.
    uint256[49] private __gap;

    /// @notice An application became known.
    /// @param appId The application's id.
    event AppRegistered(address appId);

    /// @notice The key management service was described anew.
    /// @param k256Pubkey Its root public key.
    event KmsInfoSet(bytes k256Pubkey);

    /// @notice A measurement may run as key management server from now on.
    /// @param mrAggregated The aggregated measurement.
    event KmsAggregatedMrAdded(bytes32 mrAggregated);

    /// @notice A measurement may no longer run as key management server.
    /// @param mrAggregated The aggregated measurement.
    event KmsAggregatedMrRemoved(bytes32 mrAggregated);

    /// @notice A machine may host a key management server from now on.
    /// @param deviceId The machine's id.
    event KmsDeviceAdded(bytes32 deviceId);

    /// @notice A machine may no longer host a key management server.
    /// @param deviceId The machine's id.
    event KmsDeviceRemoved(bytes32 deviceId);

    /// @notice Guests may run an operating system image from now on.
    /// @param osImageHash The image's hash.
    event OsImageHashAdded(bytes32 osImageHash);

    /// @notice Guests may no longer run an operating system image.
    /// @param osImageHash The image's hash.
    event OsImageHashRemoved(bytes32 osImageHash);

    /// @notice The trusted gateway was named.
    /// @param gatewayAppId Its application id.
    event GatewayAppIdSet(string gatewayAppId);

    /// @notice New applications get another implementation from now on.
    /// @param implementation The application contract behind new proxies.
    event AppImplementationSet(address implementation);

    /// @notice An application was created and registered here.
    /// @param appId The application's id.
    /// @param deployer Who created it, who need not be its owner.
    event AppDeployedViaFactory(address indexed appId, address indexed deployer);

    /// @notice Sets up a new proxy.
    /// @param initialOwner Who governs the deployment; not zero.
    /// @param implementation The application contract for `deployAndRegisterApp`, or zero to set it later.
    function initialize(address initialOwner, address implementation) external initializer {
        __Ownable_init(initialOwner);
        if (implementation != address(0)) _setAppImplementation(implementation);
    }

    /// @notice Describes the key management service.
    /// @param info The whole description, which replaces the former one.
    function setKmsInfo(KmsInfo calldata info) external onlyOwner {
        kmsInfo = info;
        emit KmsInfoSet(info.k256Pubkey);
        _policyChanged("kms-info", keccak256(info.k256Pubkey), true);
    }

    /// @notice Replaces the quote in the description.
    /// @param quote The quote taken when the keys were made.
    function setKmsQuote(bytes calldata quote) external onlyOwner {
        kmsInfo.quote = quote;
    }

    /// @notice Replaces the event log in the description.
    /// @param eventlog The event log that belongs to the quote.
    function setKmsEventlog(bytes calldata eventlog) external onlyOwner {
        kmsInfo.eventlog = eventlog;
    }

    /// @notice Names the trusted gateway.
    /// @param appId Its application id.
    function setGatewayAppId(string calldata appId) external onlyOwner {
        gatewayAppId = appId;
        emit GatewayAppIdSet(appId);
        _policyChanged("gateway-app-id", keccak256(bytes(appId)), true);
    }

    /// @notice Sets the application contract for later calls of `deployAndRegisterApp`; existing ones keep theirs.
    /// @param implementation The application contract; not zero.
    function setAppImplementation(address implementation) external onlyOwner {
        require(implementation != address(0), "Invalid implementation address");
        _setAppImplementation(implementation);
    }

    /// @notice Makes an application known. Anybody may, for any address: the owner's image list and the application's
    /// own contract still decide. Only the owner may for one that was deregistered.
    /// @param appId The application's id; not zero.
    function registerApp(address appId) external {
        require(appId != address(0), "Invalid app ID");
        _registerApp(appId);
    }

    /// @inheritdoc IKmsAuthManagement
    function deregisterApp(address appId) external onlyOwner {
        require(appId != address(0), "Invalid app ID");
        registeredApps[appId] = false;
        deregisteredApps[appId] = true;
        emit AppDeregistered(appId);
        _policyChanged("registered-app", _word(appId), false);
    }

    /// @notice Creates an application and registers it, with no demand on the platform's standing.
    /// @param initialOwner Who governs the application; not zero.
    /// @param disableUpgrades Whether its implementation is final from the start.
    /// @param allowAnyDevice Whether the machine does not matter.
    /// @param initialDeviceId A first machine to allow, or zero for none.
    /// @param initialComposeHash A first compose hash to allow, or zero for none.
    /// @return appId The new application's id.
    function deployAndRegisterApp(
        address initialOwner,
        bool disableUpgrades,
        bool allowAnyDevice,
        bytes32 initialDeviceId,
        bytes32 initialComposeHash
    ) external returns (address appId) {
        return _deployAndRegister(
            initialOwner, disableUpgrades, false, allowAnyDevice, initialDeviceId, initialComposeHash
        );
    }

    /// @notice Creates an application and registers it.
    /// @param initialOwner Who governs the application; not zero.
    /// @param disableUpgrades Whether its implementation is final from the start.
    /// @param requireTcbUpToDate Whether only guests on a platform in good standing may run.
    /// @param allowAnyDevice Whether the machine does not matter.
    /// @param initialDeviceId A first machine to allow, or zero for none.
    /// @param initialComposeHash A first compose hash to allow, or zero for none.
    /// @return appId The new application's id.
    function deployAndRegisterApp(
        address initialOwner,
        bool disableUpgrades,
        bool requireTcbUpToDate,
        bool allowAnyDevice,
        bytes32 initialDeviceId,
        bytes32 initialComposeHash
    ) external returns (address appId) {
        return _deployAndRegister(
            initialOwner, disableUpgrades, requireTcbUpToDate, allowAnyDevice, initialDeviceId, initialComposeHash
        );
    }

    /// @notice Allows a measurement to run as key management server.
    /// @param mrAggregated The aggregated measurement.
    function addKmsAggregatedMr(bytes32 mrAggregated) external onlyOwner {
        _addKmsAggregatedMr(mrAggregated);
    }

    /// @inheritdoc IKmsAuthBatches
    function addKmsAggregatedMrs(bytes32[] calldata mrAggregateds) external onlyOwner {
        for (uint256 i = 0; i < mrAggregateds.length; i++) {
            _addKmsAggregatedMr(mrAggregateds[i]);
        }
    }

    /// @notice Forbids a measurement until it is added again.
    /// @param mrAggregated The aggregated measurement.
    function removeKmsAggregatedMr(bytes32 mrAggregated) external onlyOwner {
        _removeKmsAggregatedMr(mrAggregated);
    }

    /// @inheritdoc IKmsAuthBatches
    function removeKmsAggregatedMrs(bytes32[] calldata mrAggregateds) external onlyOwner {
        for (uint256 i = 0; i < mrAggregateds.length; i++) {
            _removeKmsAggregatedMr(mrAggregateds[i]);
        }
    }

    /// @notice Allows a machine to host a key management server.
    /// @param deviceId The machine's id.
    function addKmsDevice(bytes32 deviceId) external onlyOwner {
        _addKmsDevice(deviceId);
    }

    /// @inheritdoc IKmsAuthBatches
    function addKmsDevices(bytes32[] calldata deviceIds) external onlyOwner {
        for (uint256 i = 0; i < deviceIds.length; i++) {
            _addKmsDevice(deviceIds[i]);
        }
    }

    /// @notice Forbids a machine to host a key management server until it is added again.
    /// @param deviceId The machine's id.
    function removeKmsDevice(bytes32 deviceId) external onlyOwner {
        _removeKmsDevice(deviceId);
    }

    /// @inheritdoc IKmsAuthBatches
    function removeKmsDevices(bytes32[] calldata deviceIds) external onlyOwner {
        for (uint256 i = 0; i < deviceIds.length; i++) {
            _removeKmsDevice(deviceIds[i]);
        }
    }

    /// @notice Allows an operating system image, for applications and key management servers alike.
    /// @param osImageHash The image's hash.
    function addOsImageHash(bytes32 osImageHash) external onlyOwner {
        _addOsImageHash(osImageHash);
    }

    /// @inheritdoc IKmsAuthManagement
    function addOsImageHashes(bytes32[] calldata osImageHashes) external onlyOwner {
        for (uint256 i = 0; i < osImageHashes.length; i++) {
            _addOsImageHash(osImageHashes[i]);
        }
    }

    /// @notice Forbids an operating system image until it is added again.
    /// @param osImageHash The image's hash.
    function removeOsImageHash(bytes32 osImageHash) external onlyOwner {
        _removeOsImageHash(osImageHash);
    }

    /// @inheritdoc IKmsAuthManagement
    function removeOsImageHashes(bytes32[] calldata osImageHashes) external onlyOwner {
        for (uint256 i = 0; i < osImageHashes.length; i++) {
            _removeOsImageHash(osImageHashes[i]);
        }
    }

    /// @notice Says whether the described guest may run as key management server.
    /// @param bootInfo What the guest's attestation says.
    /// @return isAllowed True only if every rule is met.
    /// @return reason Why not, in one sentence; empty when allowed.
    function isKmsAllowed(AppBootInfo calldata bootInfo) external view returns (bool isAllowed, string memory reason) {
        if (paused()) return (false, "KMS is paused");
        if (!_isUpToDate(bootInfo.tcbStatus)) return (false, "TCB status is not up to date");
        if (!allowedOsImages[bootInfo.osImageHash]) return (false, "OS image is not allowed");
        if (!kmsAllowedAggregatedMrs[bootInfo.mrAggregated]) return (false, "Aggregated MR not allowed");
        if (!kmsAllowedDeviceIds[bootInfo.deviceId]) return (false, "KMS is not allowed to boot on this device");
        return (true, "");
    }

    /// @notice Says whether the described guest may run: the whole verdict, the application's own rules included.
    /// Reverts if the application's contract does not answer as it should, which is to be read as a refusal.
    /// @param bootInfo What the guest's attestation says.
    /// @return isAllowed True only if every rule is met.
    /// @return reason Why not, in one sentence; empty when allowed.
    function isAppAllowed(AppBootInfo calldata bootInfo) external view returns (bool isAllowed, string memory reason) {
        if (paused()) return (false, "KMS is paused");
        if (!registeredApps[bootInfo.appId]) return (false, "App not registered");
        if (!allowedOsImages[bootInfo.osImageHash]) return (false, "OS image is not allowed");
        if (bootInfo.appId.code.length == 0) return (false, "App not deployed or invalid address");
        return IAppAuth(bootInfo.appId).isAppAllowed(bootInfo);
    }

    /// @inheritdoc Governed
    function supportsInterface(bytes4 interfaceId) public view override returns (bool) {
        return interfaceId == type(IKmsAuthManagement).interfaceId || interfaceId == type(IKmsAuthBatches).interfaceId
            || super.supportsInterface(interfaceId);
    }

    function _deployAndRegister(
        address initialOwner,
        bool disableUpgrades,
        bool requireTcbUpToDate,
        bool allowAnyDevice,
        bytes32 initialDeviceId,
        bytes32 initialComposeHash
    ) private returns (address appId) {
        require(appImplementation != address(0), "DstackApp implementation not set");
        require(initialOwner != address(0), "Invalid owner address");
        // The signature is spelled out because `initialize` is overloaded.
        bytes memory call = abi.encodeWithSignature(
            "initialize(address,bool,bool,bool,bytes32,bytes32)",
            initialOwner,
            disableUpgrades,
            requireTcbUpToDate,
            allowAnyDevice,
            initialDeviceId,
            initialComposeHash
        );
        appId = address(new ERC1967Proxy(appImplementation, call));
        _registerApp(appId);
        emit AppDeployedViaFactory(appId, msg.sender);
    }

    function _registerApp(address appId) private {
        if (deregisteredApps[appId]) {
            require(msg.sender == owner(), "App was deregistered");
            deregisteredApps[appId] = false;
        }
        registeredApps[appId] = true;
        emit AppRegistered(appId);
        _policyChanged("registered-app", _word(appId), true);
    }

    function _addKmsAggregatedMr(bytes32 mrAggregated) private {
        kmsAllowedAggregatedMrs[mrAggregated] = true;
        emit KmsAggregatedMrAdded(mrAggregated);
        _policyChanged("kms-aggregated-mr", mrAggregated, true);
    }

    function _removeKmsAggregatedMr(bytes32 mrAggregated) private {
        kmsAllowedAggregatedMrs[mrAggregated] = false;
        emit KmsAggregatedMrRemoved(mrAggregated);
        _policyChanged("kms-aggregated-mr", mrAggregated, false);
    }

    function _addKmsDevice(bytes32 deviceId) private {
        kmsAllowedDeviceIds[deviceId] = true;
        emit KmsDeviceAdded(deviceId);
        _policyChanged("kms-device", deviceId, true);
    }

    function _removeKmsDevice(bytes32 deviceId) private {
        kmsAllowedDeviceIds[deviceId] = false;
        emit KmsDeviceRemoved(deviceId);
        _policyChanged("kms-device", deviceId, false);
    }

    function _addOsImageHash(bytes32 osImageHash) private {
        allowedOsImages[osImageHash] = true;
        emit OsImageHashAdded(osImageHash);
        _policyChanged("os-image", osImageHash, true);
    }

    function _removeOsImageHash(bytes32 osImageHash) private {
        allowedOsImages[osImageHash] = false;
        emit OsImageHashRemoved(osImageHash);
        _policyChanged("os-image", osImageHash, false);
    }

    function _setAppImplementation(address implementation) private {
        appImplementation = implementation;
        emit AppImplementationSet(implementation);
        _policyChanged("app-implementation", _word(implementation), true);
    }
}
