// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {OwnableUpgradeable} from "@openzeppelin/contracts-upgradeable/access/OwnableUpgradeable.sol";
import {Initializable} from "@openzeppelin/contracts-upgradeable/proxy/utils/Initializable.sol";
import {UUPSUpgradeable} from "@openzeppelin/contracts-upgradeable/proxy/utils/UUPSUpgradeable.sol";
import {ERC1967Proxy} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";
import {AppAuth} from "../src/AppAuth.sol";
import {IAppAuth} from "../src/IAppAuth.sol";
import {KmsAuth} from "../src/KmsAuth.sol";
import {Cheats, VM} from "./Cheats.sol";
import {Fixture} from "./Fixture.sol";
import {Cluster} from "./diamond/Cluster.sol";
import {ClusterBootGate} from "./diamond/ClusterBootGate.sol";
import {AppAuthV1} from "./older/AppAuthV1.sol";
import {KmsAuthV1} from "./older/KmsAuthV1.sol";
import {OldAppAuth} from "./older/OldAppAuth.sol";
import {OldKmsAuth} from "./older/OldKmsAuth.sol";

/// @dev Proxies of an older layout get today's code and keep their state; the shapes that readers meet behave as theirs
/// do.
contract OlderTest is Fixture {
    function testAnOldAppKeepsItsStateUnderNewCode() public {
        AppAuthV1 old = oldApp(false);
        VM.prank(TENANT);
        old.upgradeToAndCall(address(appImplementation), "");
        AppAuth upgraded = AppAuth(address(old));
        VM.assertEq(upgraded.owner(), TENANT, "owner");
        VM.assertTrue(upgraded.allowedComposeHashes(COMPOSE) && upgraded.allowedDeviceIds(DEVICE), "lists");
        VM.assertFalse(upgraded.allowAnyDevice() || upgraded.requireTcbUpToDate() || upgraded.paused(), "flags");

        kms.registerApp(address(upgraded));
        IAppAuth.AppBootInfo memory info = boot();
        info.appId = address(upgraded);
        assertAllowed(kms, info);
        info.composeHash = OTHER;
        assertRefused(kms, info, "Compose hash not allowed");

        VM.expectRevert(abi.encodeWithSelector(Initializable.InvalidInitialization.selector));
        upgraded.initialize(STRANGER, false, true, 0, 0);
    }

    function testOnlyTheOwnerOfAnOldAppUpgradesIt() public {
        AppAuthV1 old = oldApp(false);
        VM.expectRevert(abi.encodeWithSelector(OwnableUpgradeable.OwnableUnauthorizedAccount.selector, STRANGER));
        VM.prank(STRANGER);
        old.upgradeToAndCall(address(appImplementation), "");
    }

    /// @dev The old code's word that it is final is kept by the new code's, which reads the same slot.
    function testAFinalOldAppStaysFinal() public {
        AppAuthV1 old = oldApp(true);
        VM.expectRevert(bytes("Upgrades are permanently disabled"));
        VM.prank(TENANT);
        old.upgradeToAndCall(address(appImplementation), "");

        VM.store(address(old), IMPLEMENTATION_SLOT, word(address(appImplementation)));
        VM.expectRevert(bytes("Upgrades are permanently disabled"));
        VM.prank(TENANT);
        AppAuth(address(old)).upgradeToAndCall(address(appImplementation), "");
    }

    function testAnOldRegistryKeepsItsStateUnderNewCode() public {
        bytes memory call = abi.encodeCall(KmsAuthV1.initialize, (OPERATOR, address(appImplementation)));
        KmsAuthV1 old = KmsAuthV1(address(new ERC1967Proxy(address(new KmsAuthV1()), call)));
        old.fill(
            KmsAuth.KmsInfo("root", "authority", "quote", "log"),
            "a gateway's id of forty characters....",
            address(app),
            IMAGE
        );
        address code = address(new KmsAuth());
        VM.expectRevert(abi.encodeWithSelector(OwnableUpgradeable.OwnableUnauthorizedAccount.selector, STRANGER));
        VM.prank(STRANGER);
        old.upgradeToAndCall(code, "");
        VM.prank(OPERATOR);
        old.upgradeToAndCall(code, "");

        KmsAuth upgraded = KmsAuth(address(old));
        VM.assertEq(upgraded.owner(), OPERATOR, "owner");
        VM.assertEq(upgraded.gatewayAppId(), "a gateway's id of forty characters....", "gatewayAppId");
        (bytes memory k256Pubkey,,, bytes memory eventlog) = upgraded.kmsInfo();
        VM.assertEq(abi.encode(k256Pubkey, eventlog), abi.encode(bytes("root"), bytes("log")), "kmsInfo");
        VM.assertEq(upgraded.appImplementation(), address(appImplementation), "appImplementation");
        VM.assertTrue(upgraded.kmsAllowedAggregatedMrs(IMAGE) && upgraded.kmsAllowedDeviceIds(IMAGE), "KMS lists");
        VM.assertFalse(upgraded.paused() || upgraded.deregisteredApps(address(app)), "nothing is new");
        assertAllowed(upgraded, boot());
        VM.expectRevert(abi.encodeWithSelector(Initializable.InvalidInitialization.selector));
        upgraded.initialize(STRANGER, address(0));

        VM.prank(OPERATOR);
        upgraded.deregisterApp(address(app));
        assertRefused(upgraded, boot(), "App not registered");
        VM.assertEq(upgraded.appImplementation(), address(appImplementation), "the slot before is untouched");
    }

    function testTheFirstRegistriesShape() public {
        OldKmsAuth old = new OldKmsAuth();
        address appId = old.nextAppId();
        OldAppAuth controller = new OldAppAuth(appId);
        old.registerApp(address(controller));
        old.registerImage(IMAGE);
        old.setTproxyAppId("tproxy");
        (bool registered, address found) = old.apps(appId);
        VM.assertTrue(registered && found == address(controller), "apps(address)");
        VM.assertTrue(old.nextAppId() != appId, "the next id is another");

        IAppAuth.AppBootInfo memory info = boot();
        info.appId = appId;
        assertRefused(IAppAuth(address(old)), info, "Compose hash not allowed");
        controller.addComposeHash(COMPOSE);
        assertAllowed(IAppAuth(address(old)), info);
        assertRefused(IAppAuth(address(controller)), boot(), "Wrong app controller");
        VM.assertEq(bytes32(old.tproxyAppId.selector), bytes32(bytes4(0x652a2997)), "tproxyAppId");
    }

    /// @dev A revocation on a cluster is seen by nobody who follows the member's logs.
    function testAClustersEventsAreTheDiamonds() public {
        ClusterBootGate cluster = ClusterBootGate(address(new Cluster()));
        address member = cluster.mint();
        cluster.addComposeHash(COMPOSE);
        cluster.setAllowAnyDevice(true);
        kms.registerApp(member);
        IAppAuth.AppBootInfo memory info = boot();
        info.appId = member;
        assertAllowed(kms, info);

        VM.recordLogs();
        cluster.removeComposeHash(COMPOSE);
        Cheats.Log[] memory logs = VM.getRecordedLogs();
        VM.assertEq(logs.length, 1, "number of logs");
        VM.assertEq(logs[0].emitter, address(cluster), "emitter");
        assertRefused(kms, info, "compose hash not allowed");
        cluster.addComposeHash(COMPOSE);
        cluster.pause();
        assertRefused(kms, info, "cluster paused");
        cluster.unpause();
        cluster.destroy();
        assertRefused(kms, info, "cluster destroyed");
        VM.assertFalse(IAppAuth(member).supportsInterface(0x8fd37527), "not dstack's management");
        (bool done,) = address(cluster).call(abi.encodeCall(ClusterBootGate.take, (STRANGER)));
        VM.assertFalse(done, "anybody can take the cluster");
    }

    function oldApp(bool isFinal) private returns (AppAuthV1) {
        bytes memory call = abi.encodeCall(AppAuthV1.initialize, (TENANT, isFinal, false, DEVICE, COMPOSE));
        return AppAuthV1(address(new ERC1967Proxy(address(new AppAuthV1()), call)));
    }
}
